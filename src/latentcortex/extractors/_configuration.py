"""Layers, image size and widths of a latent diffusion model, read from its configuration without loading weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from latentcortex._loading.configuration import (
    AUTOENCODER,
    CLIP_PROJECTED,
    CLIP_TEXT,
    TRANSFORMER,
    UNET,
    Config,
    PartKind,
)
from latentcortex.errors import InputError

TAKAGI_PIXELS: Final = {512: 320}
"""Height and width, in pixels, of a model's training images -> those used with it by Takagi and Nishimoto (2023)."""

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "dtype": ("float32", "bfloat16", "float16"),
    "weights": ("trained", "untrained"),
    "input": ("images", "noise"),
    "noise_start": ("consistent", "compvis"),
}
"""Settings of the extractor that are words, each with the words that it may be."""
DENOISERS: Final = {"unet": "unet", "dit": "transformer"}
"""Kinds of denoiser, as the bands of their layers begin, each with its folder in a model."""
KINDS: Final[dict[str, PartKind]] = {
    "unet": UNET,
    "transformer": TRANSFORMER,
    "vae": AUTOENCODER,
    "text_encoder": CLIP_TEXT,
    "text_encoder_2": CLIP_PROJECTED,
}
"""Folders of a model's parts, each with the kind of part that it must hold."""
MAX_SKIPPED_FRACTION: Final = 0.05
"""Largest fraction of the training timesteps that a grid may leave out at its noisy end."""


def check_grid(n_steps: int, timesteps: int, denoiser: str) -> None:
    """Raise `InputError` for a grid of timesteps that stops short of the noise that its strengths promise.

    The steps of a U-Net's grid are equal and whole: where they do not divide the timesteps of training, those at the
    noisy end are in none of them. 501 to 999 steps of 1000 are single timesteps, and begin anywhere below 1000.

    Parameters
    ----------
    n_steps : int
        Length of the grid.
    timesteps : int
        Number of timesteps that the model was trained with.
    denoiser : {"unet", "dit"}

    Examples
    --------
    >>> check_grid(50, 1000, "unet")
    >>> check_grid(600, 1000, "unet")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    latentcortex.errors.InputError: A grid of 600 steps ends at timestep 600 of 1000, so that ...
    """
    if n_steps > timesteps:
        raise InputError(f"n_steps must be at most {timesteps}, the timesteps of the model's training; got {n_steps}.")
    spacing = timesteps // n_steps
    noisiest = (n_steps - 1) * spacing + 1
    if denoiser == "unet" and (noisiest >= timesteps or n_steps * spacing < (1 - MAX_SKIPPED_FRACTION) * timesteps):
        whole = [n for n in range(1, timesteps // 2 + 1) if timesteps % n == 0]
        near = min(whole, key=lambda n: abs(n - n_steps))
        raise InputError(
            f"A grid of {n_steps} steps ends at timestep {noisiest} of {timesteps}, so that strengths would not have "
            f"the noise that they say; use a number of steps that divides {timesteps}, such as n_steps = {near}."
        )


def denoiser_blocks(config: Config, denoiser: str) -> dict[str, str]:
    """List the blocks of a denoiser, by its configuration: short name -> name of the module.

    Examples
    --------
    >>> blocks({"num_layers": 2}, "dit")
    {'block0': 'transformer_blocks.0', 'block1': 'transformer_blocks.1'}
    """
    if denoiser == "dit":
        return {f"block{i}": f"transformer_blocks.{i}" for i in range(config["num_layers"])}
    n_blocks = len(config["down_block_types"])
    paths = {f"{path}{i}": f"{path}_blocks.{i}" for path in ("down", "up") for i in range(n_blocks)}
    return {**paths, "mid": "mid_block"}


def default_layers(config: Config, denoiser: str) -> tuple[str, ...]:
    """Choose five blocks: two of a U-Net's first stage, the bottleneck, two of the second; a transformer's evenly.

    Examples
    --------
    >>> five({"num_layers": 24}, "dit")
    ('block0', 'block6', 'block12', 'block17', 'block23')
    """
    if denoiser == "dit":
        layers = tuple(f"block{(i * (config['num_layers'] - 1) + 2) // 4}" for i in range(5))
    else:
        n_blocks = len(config["down_block_types"])
        layers = ("down0", f"down{max(n_blocks - 2, 0)}", "mid", f"up{max(n_blocks - 3, 0)}", f"up{n_blocks - 1}")
    return tuple(dict.fromkeys(layers))


def image_size(pixels: int, config: Config, factor: int, denoiser: str) -> int:
    """Choose the height and width of images.

    Parameters
    ----------
    pixels : int
        Height and width that is asked for; 0 is that of the model's training images, or of `TAKAGI_PIXELS`.
    config : mapping
        Configuration of the denoiser.
    factor : int
        Pixels per position of the latent, each way.
    denoiser : {"unet", "dit"}

    Raises
    ------
    InputError
        If the denoiser takes no latents of that size.
    """
    if not (pixels or config["sample_size"]):
        raise InputError("The model's denoiser does not say for which sample_size it was made; set `pixels`.")
    native = int(config["sample_size"] or 0) * factor
    chosen = pixels or TAKAGI_PIXELS.get(native, native)
    # A U-Net halves the latent in all blocks but one; a transformer cuts it into patches with learnt positions.
    is_unet = denoiser == "unet"
    multiple = factor * int(2 ** (len(config["down_block_types"]) - 1) if is_unet else config["patch_size"])
    if chosen % multiple:
        raise InputError(f"pixels must be a multiple of {multiple} for this model; got {chosen}.")
    if not is_unet and chosen > (largest := multiple * config["pos_embed_max_size"]):
        raise InputError(f"pixels must be at most {largest} for this model; got {chosen}.")
    return chosen


def text_widths(texts: Sequence[Config], config: Config, denoiser: str, n_more: int) -> dict[str, int]:
    """Count the dimensions of c, of a layer of the (first) text encoder and of the pooled text.

    Parameters
    ----------
    texts : sequence of mapping
        Configurations of the CLIP text encoders, one or two.
    config : mapping
        Configuration of the denoiser.
    denoiser : {"unet", "dit"}
    n_more : int
        Tokens of the T5 encoder, which a transformer gets besides CLIP's.

    Returns
    -------
    dict of str to int
        Entity of the band (empty for c itself) -> number of dimensions.
    """
    first, last = texts[0], texts[-1]
    n_tokens = int(first["max_position_embeddings"])
    widths = {"layer": n_tokens * first["hidden_size"]}
    if denoiser == "dit":
        pooled = sum(text["projection_dim"] for text in texts)
        return {"": (n_tokens + n_more) * config["joint_attention_dim"], "part": pooled, **widths}
    pooled = first["hidden_size"] if len(texts) == 1 else last["projection_dim"]
    return {"": n_tokens * sum(text["hidden_size"] for text in texts), "part": pooled, **widths}
