"""From a noised latent to a denoised one: every strength in one pass, and what is caught on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

from latentcortex._ldm import flow
from latentcortex._ldm.codes import Conditioning
from latentcortex._ldm.model import LatentDiffusion
from latentcortex.errors import InputError

Tensor = torch.Tensor

STARTS: Final = ("consistent", "compvis")
"""Where noising ends: at the timestep where denoising begins, or one grid step later as in the code of CompVis."""


@dataclass(frozen=True, order=True)
class Tap:
    """One thing to catch.

    Parameters
    ----------
    what : str
        `x_t`, the latent after the step; `x0`, the clean latent that the step predicts; or the name of a module of the
        denoiser, whose output is that of the call that completes the step.
    strength, step : int
        Percent; of `x_t` the step may be 0, the noised latent.
    blind : bool
        Whether the module is looked at without the captions, in a call of its own with the empty text.
    """

    what: str
    strength: int
    step: int
    blind: bool = False

    @property
    def layer(self) -> str | None:
        """The module, if it is one."""
        return None if self.what in ("x_t", "x0") else self.what


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What was caught, and what it took.

    Parameters
    ----------
    caught : dict of Tap to Tensor
        (n, channels, h, w) for latents; in float32.
    n_calls, n_rows : int
        Calls of the denoiser, and images in all of them.
    """

    caught: dict[Tap, Tensor]
    n_calls: int
    n_rows: int


def n_steps_of(strength: int, n_steps: int) -> int:
    """Count the denoising steps of a strength in percent, in whole numbers, rounded down.

    The pipeline of Stable Diffusion 3 rounds up; the two differ where strength * n_steps is no multiple of 100.

    Examples
    --------
    >>> n_steps_of(58, 50), n_steps_of(80, 10)
    (29, 8)
    """
    return strength * n_steps // 100


def step_index(step: int, n_own: int) -> int:
    """Find how many of a strength's own steps are completed at `step` percent, rounding up.

    Examples
    --------
    >>> step_index(25, 8), step_index(100, 8), step_index(0, 8)
    (2, 8, 0)
    """
    return -(-step * n_own // 100)


def beginnings(model: LatentDiffusion, strengths: Collection[int], *, n_steps: int, start: str) -> dict[int, float]:
    """Find the timestep to which each strength, in percent, noises."""
    model.scheduler.set_timesteps(n_steps)
    grid = [float(t) for t in model.scheduler.timesteps]
    before = int(start == "compvis")
    return {strength: grid[n_steps - n_steps_of(strength, n_steps) - before] for strength in strengths}


@torch.inference_mode()
def trajectory(
    model: LatentDiffusion,
    z: Tensor,
    c: Conditioning,
    noise: Tensor,
    *,
    n_steps: int,
    taps: Collection[Tap],
    nothing: Conditioning | None = None,
    start: str = "consistent",
) -> Trajectory:
    """Noise latents to each strength and denoise them with c, in one pass over the timestep grid.

    From the largest strength down, the noised latents of each strength join the batch when the grid reaches
    them, and leave it with their last tap; all rows share the timestep, so steps without noise (DDIM with
    eta 0, or Euler's along a flow; no guidance) need no memory.

    Parameters
    ----------
    model : LatentDiffusion
    z, noise : Tensor of shape (n, channels, h, w)
    c : Conditioning
        Of n images.
    n_steps : int
        Length of the whole grid; a strength of s percent takes s * n_steps // 100 of it.
    taps : collection of Tap
    nothing : Conditioning, optional
        Of the empty text, one image; needed for taps without captions.
    start : {"consistent", "compvis"}

    Returns
    -------
    Trajectory

    Raises
    ------
    InputError
        If a strength of 100 percent is asked for with `compvis`, whose grid ends before.
    """
    runner = _Runner(model, z, c, noise, n_steps, tuple(taps), nothing, start)
    with _listening(model, sorted({tap.layer for tap in taps if tap.layer})) as heard:
        for i, t in enumerate(runner.grid):
            runner.join(i)
            runner.step(i, t, heard)
    return Trajectory(runner.caught, runner.n_calls, runner.n_rows)


class _Runner:
    """The state of one pass: which strengths are on the way, and what was caught."""

    def __init__(
        self,
        model: LatentDiffusion,
        z: Tensor,
        c: Conditioning,
        noise: Tensor,
        n_steps: int,
        taps: tuple[Tap, ...],
        nothing: Conditioning | None,
        start: str,
    ) -> None:
        self.model, self.c, self.nothing, self.n_steps, self.taps = model, c, nothing, n_steps, taps
        self.z, self.noise, self.start = z.to(model.device), noise.to(model.device), start
        model.scheduler.set_timesteps(n_steps)
        self.grid = model.scheduler.timesteps
        self.caught: dict[Tap, Tensor] = {}
        self.active: dict[int, Tensor] = {}
        self.n_calls = self.n_rows = 0
        strengths = sorted({tap.strength for tap in taps}, reverse=True)
        if start == "compvis" and 100 in strengths:
            raise InputError("A strength of 100 % lies beyond the grid of noise_start = 'compvis'; use less.")
        self.begins = {s: n_steps - n_steps_of(s, n_steps) for s in strengths}
        self.last = {s: max(self._at(tap) for tap in taps if tap.strength == s) for s in strengths}

    def _at(self, tap: Tap) -> int:
        """Count the steps of its strength that are completed when a tap is caught."""
        return step_index(tap.step, n_steps_of(tap.strength, self.n_steps))

    def join(self, i: int) -> None:
        """Noise the strengths that begin at this step of the grid."""
        for strength, begins in self.begins.items():
            if begins == i:
                t = self.grid[i] if self.start == "consistent" else self.grid[i - 1]
                self.active[strength] = self.model.scheduler.add_noise(self.z, self.noise, t[None].to(self.z.device))
                self._catch("x_t", strength, 0, self.active[strength])

    def step(self, i: int, t: Tensor, heard: dict[str, Tensor]) -> None:
        """Denoise all strengths on the way by one step, and catch what is wanted."""
        for strength in [s for s in self.active if i - self.begins[s] >= self.last[s]]:
            del self.active[strength]
        if not self.active:
            return
        x, n = torch.cat(list(self.active.values())), len(self.z)
        self._blind(i, t, x, heard)
        predicted = self._called(x, t, self.c.repeat(len(self.active)))
        stepped = self.model.scheduler.step(predicted, t, x)
        for k, strength in enumerate(self.active):
            rows, done = slice(k * n, (k + 1) * n), i + 1 - self.begins[strength]
            for layer, output in heard.items():
                self._catch(layer, strength, done, output[rows])
            self._catch("x0", strength, done, stepped.pred_original_sample[rows])
            self.active[strength] = stepped.prev_sample[rows]
            self._catch("x_t", strength, done, self.active[strength])

    def _blind(self, i: int, t: Tensor, x: Tensor, heard: dict[str, Tensor]) -> None:
        """Look at layers without captions, where a tap asks for it at this step."""
        n = len(self.z)
        wanted = [
            (k, strength)
            for k, strength in enumerate(self.active)
            if any(tap.blind and tap.strength == strength and self._at(tap) == i + 1 - self.begins[strength]
                   for tap in self.taps)
        ]  # fmt: skip
        if not wanted:
            return
        if self.nothing is None:
            raise InputError("A layer without captions needs the embedding of the empty text.")
        rows = torch.cat([x[k * n : (k + 1) * n] for k, _ in wanted])
        self._called(rows, t, self.nothing.repeat(len(rows)))
        for j, (_, strength) in enumerate(wanted):
            for layer, output in heard.items():
                part = output[j * n : (j + 1) * n]
                self._catch(layer, strength, i + 1 - self.begins[strength], part, blind=True)

    def _called(self, x: Tensor, t: Tensor, c: Conditioning) -> Tensor:
        self.n_calls, self.n_rows = self.n_calls + 1, self.n_rows + len(x)
        predicted: Tensor = self.model.unet(x.to(self.model.dtype), t, **c.told(self.model)).sample.float()
        return predicted

    def _catch(self, what: str, strength: int, done: int, value: Tensor, *, blind: bool = False) -> None:
        for tap in self.taps:
            if (tap.what, tap.strength, tap.blind) == (what, strength, blind) and self._at(tap) == done:
                self.caught[tap] = value.float().clone()


@contextmanager
def _listening(model: LatentDiffusion, layers: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Keep the last output of each layer while the block runs."""
    heard: dict[str, Tensor] = {}

    def keep(layer: str) -> Callable[..., None]:
        def hook(module: Any, _inputs: Any, output: Any) -> None:
            heard[layer] = flow.of_image(module, output)

        return hook

    modules = {layer: model.unet.get_submodule(layer) for layer in layers}
    handles = [module.register_forward_hook(keep(layer)) for layer, module in modules.items()]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()
