"""A latent diffusion model in parts, and its trajectory from image to image. torch stays in here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

Tensor = torch.Tensor
Tap = tuple[int, int]
"""A strength and a step, both in percent."""

CAPTIONS: Final = 64
"""Captions per pass of the text encoder."""
PARTS: Final = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """The parts of one model, in evaluation mode.

    Parameters
    ----------
    vae, unet, text_encoder, tokenizer
        As diffusers and transformers load them.
    scheduler : DDIMScheduler
        Deterministic, without clipping.
    """

    vae: Any
    unet: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any


def load(folder: Path) -> LatentDiffusion:
    """Load a model folder in the layout of Stable Diffusion, offline, in float32.

    Raises
    ------
    InputError
        If the folder is not such a model, or has no safetensors.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise InputError(f"{folder} is not a latent diffusion model: no {', '.join(missing)} in it.")
    options: dict[str, Any] = {"local_files_only": True, "dtype": torch.float32, "use_safetensors": True}
    with _quiet():
        try:
            vae = AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False, **options)
            unet = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False, **options)
            text = CLIPTextModel.from_pretrained(folder / "text_encoder", **options)
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            config = DDIMScheduler.load_config(folder / "scheduler", local_files_only=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from None
    scheduler = DDIMScheduler.from_config(
        config, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
    )
    for part in (vae, unet, text):
        part.eval().requires_grad_(False)
    return LatentDiffusion(vae, unet, text, tokenizer, scheduler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep loaders from drawing bars and from asking the network."""
    import diffusers.utils.logging as of_diffusers
    import transformers.utils.logging as of_transformers

    before = of_diffusers.get_verbosity(), of_transformers.get_verbosity()
    network = os.environ.get("HF_HUB_OFFLINE")
    of_diffusers.set_verbosity_error()
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        of_diffusers.set_verbosity(before[0])
        of_transformers.set_verbosity(before[1])
        of_transformers.enable_progress_bar()
        os.environ.pop("HF_HUB_OFFLINE")
        if network is not None:
            os.environ["HF_HUB_OFFLINE"] = network


@torch.inference_mode()
def encode_images(model: LatentDiffusion, images: np.ndarray[Any, Any]) -> Tensor:
    """Encode uint8 images (n, height, width, 3) to z (n, channels, h, w): the scaled posterior mean."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    z: Tensor = model.vae.encode(x).latent_dist.mode() * model.vae.config.scaling_factor
    return z


@torch.inference_mode()
def encode_captions(model: LatentDiffusion, captions: Sequence[tuple[str, ...]]) -> Tensor:
    """Encode each image's captions to c (n, n_tokens, width): the mean of their last hidden states.

    Captions are encoded in padded batches of one size, so that c does not depend on which others are asked
    for. An image without captions gets the embedding of the empty text.
    """
    texts = list(dict.fromkeys(text for known in captions for text in (known or ("",))))
    embedded: dict[str, Tensor] = {}
    for start in range(0, len(texts), CAPTIONS):
        some = texts[start : start + CAPTIONS]
        padded = some + [""] * (CAPTIONS - len(some))
        tokens = model.tokenizer(
            padded,
            padding="max_length",
            max_length=model.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        states = model.text_encoder(tokens.input_ids).last_hidden_state
        embedded |= dict(zip(some, states, strict=False))
    return torch.stack([torch.stack([embedded[t] for t in (known or ("",))]).mean(0) for known in captions])


def n_steps_of(strength: int, n_steps: int) -> int:
    """Count the denoising steps of a strength in percent, in whole numbers.

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


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What is caught on the way from a noised latent to a denoised one.

    Parameters
    ----------
    latents : dict
        (strength, step) -> x_t of shape (n, channels, h, w), after `step` percent of the strength's steps.
    layers : dict
        (module, strength, step) -> output of that module of the U-Net in the call that completes the step.
    """

    latents: dict[Tap, Tensor]
    layers: dict[tuple[str, int, int], Tensor]


@torch.inference_mode()
def trajectory(
    model: LatentDiffusion,
    z: Tensor,
    c: Tensor,
    noise: Tensor,
    *,
    n_steps: int,
    latents: Sequence[Tap] = (),
    layers: Sequence[tuple[str, int, int]] = (),
) -> Trajectory:
    """Noise latents to each strength and denoise them with c, in one pass over the timestep grid.

    From the largest strength down, the noised latents of each strength join the batch when the grid reaches
    them; all rows share the timestep, so DDIM without noise (eta 0, no guidance) needs no memory.

    Parameters
    ----------
    model : LatentDiffusion
    z, noise : Tensor of shape (n, channels, h, w)
    c : Tensor of shape (n, n_tokens, width)
    n_steps : int
        Length of the whole grid; a strength of s percent takes s * n_steps // 100 of it.
    latents, layers
        What to catch.

    Returns
    -------
    Trajectory
    """
    strengths = sorted({tap[0] for tap in latents} | {tap[1] for tap in layers}, reverse=True)
    scheduler = model.scheduler
    scheduler.set_timesteps(n_steps)
    grid = scheduler.timesteps
    caught = Trajectory({}, {})
    active: dict[int, Tensor] = {}
    with _listening(model, sorted({layer for layer, _, _ in layers})) as heard:
        for i, t in enumerate(grid):
            for strength in strengths:
                if n_steps_of(strength, n_steps) == n_steps - i:
                    active[strength] = scheduler.add_noise(z, noise, t[None])
                    _catch_latents(caught, latents, strength, 0, n_steps, active[strength])
            if active:
                x = torch.cat(list(active.values()))
                predicted = model.unet(x, t, c.repeat(len(active), 1, 1)).sample
                after = scheduler.step(predicted, t, x).prev_sample.split(len(z))
                for k, strength in enumerate(active):
                    done = i + 1 - (n_steps - n_steps_of(strength, n_steps))
                    rows = slice(k * len(z), (k + 1) * len(z))
                    _catch_layers(caught, layers, strength, done, n_steps, heard, rows)
                    active[strength] = after[k]
                    _catch_latents(caught, latents, strength, done, n_steps, after[k])
    return caught


def _catch_latents(caught: Trajectory, taps: Sequence[Tap], strength: int, done: int, n_steps: int, x: Tensor) -> None:
    for tap in taps:
        if tap[0] == strength and step_index(tap[1], n_steps_of(strength, n_steps)) == done:
            caught.latents[tap] = x


def _catch_layers(
    caught: Trajectory,
    taps: Sequence[tuple[str, int, int]],
    strength: int,
    done: int,
    n_steps: int,
    heard: Mapping[str, Tensor],
    rows: slice,
) -> None:
    for layer, at, step in taps:
        if at == strength and step_index(step, n_steps_of(strength, n_steps)) == done:
            caught.layers[layer, at, step] = heard[layer][rows].clone()


@contextmanager
def _listening(model: LatentDiffusion, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Keep the last output of each layer while the block runs."""
    heard: dict[str, Tensor] = {}

    def keep(layer: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            heard[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    modules = [model.unet.get_submodule(layer) for layer in layers]
    handles = [module.register_forward_hook(keep(layer)) for layer, module in zip(layers, modules, strict=True)]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def noised(model: LatentDiffusion, z: Tensor, noise: Tensor, *, n_own: int, n_steps: int) -> Tensor:
    """Noise latents (n, channels, h, w) to where the last `n_own` of `n_steps` denoising steps begin."""
    model.scheduler.set_timesteps(n_steps)
    x: Tensor = model.scheduler.add_noise(z, noise, model.scheduler.timesteps[n_steps - n_own][None])
    return x


@torch.inference_mode()
def denoised(model: LatentDiffusion, x: Tensor, c: Tensor, *, n_own: int, n_steps: int, guidance: float) -> Tensor:
    """Denoise latents with c through the last `n_own` of `n_steps` steps of DDIM (eta 0).

    Parameters
    ----------
    model : LatentDiffusion
    x : Tensor of shape (n, channels, h, w)
    c : Tensor of shape (n, n_tokens, width)
    n_own, n_steps : int
    guidance : float
        How far each prediction goes from the one for the empty text towards, and beyond, the one for c;
        1 is none.

    Returns
    -------
    Tensor of shape (n, channels, h, w)
    """
    model.scheduler.set_timesteps(n_steps)
    nothing = encode_captions(model, [()]).expand_as(c)
    for t in model.scheduler.timesteps[n_steps - n_own :]:
        predicted = model.unet(x, t, c).sample
        if guidance != 1:
            without = model.unet(x, t, nothing).sample
            predicted = without + guidance * (predicted - without)
        x = model.scheduler.step(predicted, t, x).prev_sample
    return x


@torch.inference_mode()
def decode(model: LatentDiffusion, z: Tensor) -> np.ndarray[Any, Any]:
    """Decode latents to uint8 images (n, height, width, 3); values outside 0..255 are clipped."""
    x = model.vae.decode(z / model.vae.config.scaling_factor).sample
    out: np.ndarray[Any, Any] = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return out
