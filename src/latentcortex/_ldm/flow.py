"""Flow-matching transformers, as in Stable Diffusion 3: their timesteps, their denoiser, and what it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any, Final

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.attention import JointTransformerBlock

Tensor = torch.Tensor

KEPT: Final = ("num_train_timesteps", "shift")
"""Settings of a scheduler that its grid follows from."""
T5_TOKENS: Final = 256
"""Tokens of T5, those of the pipeline; zeros where there is no T5."""


@dataclass(frozen=True, eq=False)
class Step:
    """Latents after a step, and the clean ones that it predicts; each (n, channels, h, w)."""

    prev_sample: Tensor
    pred_original_sample: Tensor


class Schedule:
    """The timestep grid of a flow-matching model, asked as the schedulers of diffusers are.

    A latent at timestep t is (1 - sigma) * z + sigma * noise, with sigma = t / the timesteps of training; the denoiser
    predicts its velocity, noise - z, and a step goes straight along it. Sigma is found from t in every call: which
    steps were taken before is not remembered.

    Parameters
    ----------
    config : mapping
        Of a FlowMatchEulerDiscreteScheduler, which makes the grid: `num_train_timesteps` and `shift`. What else would
        change it, `_loading.configuration` refuses.

    References
    ----------
    Esser et al. (2024), doi:10.48550/arXiv.2403.03206
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = FlowMatchEulerDiscreteScheduler.from_config({key: config[key] for key in KEPT}).config
        self.set_timesteps(int(self.config["num_train_timesteps"]))

    def set_timesteps(self, n_steps: int) -> None:
        """Set the grid to so many steps: `timesteps`, descending, and `sigmas`, with a 0 at the end."""
        grid = FlowMatchEulerDiscreteScheduler.from_config(self.config)
        grid.set_timesteps(n_steps)
        self.timesteps: Tensor = grid.timesteps
        self.sigmas: Tensor = grid.sigmas

    def add_noise(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Noise latents (n, channels, h, w) to one timestep of the grid, given as a tensor of one."""
        sigma = float(self.sigmas[self._at(t)])
        return (1 - sigma) * z + sigma * noise

    def step(self, velocity: Tensor, t: Tensor, x: Tensor) -> Step:
        """Go from one timestep of the grid to the next along the predicted velocity, (n, channels, h, w)."""
        i = self._at(t)
        sigma, after = float(self.sigmas[i]), float(self.sigmas[i + 1])
        return Step(x + (after - sigma) * velocity, x - sigma * velocity)

    def alpha_bar(self, t: float) -> float:
        """Say which share of the variance of a latent at a timestep is signal, if z has a variance of 1.

        (1 - sigma)^2 / ((1 - sigma)^2 + sigma^2), which is alpha-bar where noise is added as in Stable Diffusion 1.
        """
        sigma = t / float(self.config["num_train_timesteps"])
        return (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)

    def _at(self, t: Tensor) -> int:
        return int((self.timesteps - float(t)).abs().argmin())


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A transformer that is called as a U-Net is.

    Parameters
    ----------
    transformer : SD3Transformer2DModel
    """

    transformer: Any

    def __call__(self, x: Tensor, t: Tensor, **told: Tensor) -> Any:
        """Predict the velocity of latents (n, channels, h, w), in `sample`."""
        return self.transformer(hidden_states=x, timestep=t.to(x.device).expand(len(x)), **told)

    @property
    def config(self) -> Any:
        """The configuration of the transformer."""
        return self.transformer.config

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """Go through the modules by their names in the transformer."""
        modules: Iterator[tuple[str, Any]] = self.transformer.named_modules()
        return modules

    def get_submodule(self, name: str) -> Any:
        """Find a module by its name in the transformer."""
        return self.transformer.get_submodule(name)


def of_image(module: Any, output: Any) -> Tensor:
    """Take from what a module gives the part that belongs to the image.

    Of a block with two streams that is the image's, its tokens put where their patches are: (n, width, h, w) for a
    square of patches. Of any other module it is the output, or the first of several.
    """
    if isinstance(module, JointTransformerBlock):
        tokens: Tensor = output[1]
        n, n_tokens, width = tokens.shape
        side = isqrt(n_tokens)
        return tokens.transpose(1, 2).reshape(n, width, side, side)
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first


def joined(clip: Tensor, t5: Tensor) -> Tensor:
    """Put CLIP's hidden states (n, n_tokens, width), filled up with zeros to T5's width, before T5's."""
    filled = torch.nn.functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
    return torch.cat([filled, t5], dim=1)
