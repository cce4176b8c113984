"""What a latent diffusion model is, by the configuration of its parts: nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from latentcortex._loading.configuration import (
    AUTOENCODER,
    CLIP_PROJECTED,
    CLIP_TEXT,
    TRANSFORMER,
    UNET,
    Kind,
)
from latentcortex.errors import InputError

PAPER: Final = (512, 320)
"""Images of models that were made for so many pixels have so many, as in Takagi and Nishimoto (2023)."""

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "dtype": ("float32", "bfloat16", "float16"),
    "weights": ("trained", "untrained"),
    "shown": ("images", "noise"),
    "start": ("consistent", "compvis"),
}
"""Settings that are words, and their words."""
DENOISERS: Final = {"unet": "unet", "dit": "transformer"}
"""What denoises, a U-Net or a transformer, as the bands of its layers are named, and the folder of each."""
KINDS: Final[dict[str, Kind]] = {
    "unet": UNET,
    "transformer": TRANSFORMER,
    "vae": AUTOENCODER,
    "text_encoder": CLIP_TEXT,
    "text_encoder_2": CLIP_PROJECTED,
}
"""The folders of parts, and what they must be to be described here."""
SHORT: Final = 0.05
"""Fraction of the timesteps of training that a grid may leave out at its noisy end."""

Config = Mapping[str, Any]


def check_grid(n_steps: int, timesteps: int, denoiser: str) -> None:
    """Raise `InputError` for a grid of timesteps that does not go as far as its strengths say.

    The steps of a U-Net's grid are equal and whole: where they do not divide the timesteps of training, those at the
    noisy end are in none of them. 501 to 999 steps of 1000 are single timesteps, and begin anywhere below 1000.

    Parameters
    ----------
    n_steps : int
        Length of the grid.
    timesteps : int
        Of training.
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
    each = timesteps // n_steps
    first = (n_steps - 1) * each + 1
    if denoiser == "unet" and (first >= timesteps or n_steps * each < (1 - SHORT) * timesteps):
        whole = [n for n in range(1, timesteps // 2 + 1) if timesteps % n == 0]
        near = min(whole, key=lambda n: abs(n - n_steps))
        raise InputError(
            f"A grid of {n_steps} steps ends at timestep {first} of {timesteps}, so that strengths would not have the "
            f"noise that they say; use a number of steps that divides {timesteps}, such as n_steps = {near}."
        )


def blocks(config: Config, denoiser: str) -> dict[str, str]:
    """Name the blocks of a denoiser shortly, by its configuration: short names -> names of modules.

    Examples
    --------
    >>> blocks({"num_layers": 2}, "dit")
    {'block0': 'transformer_blocks.0', 'block1': 'transformer_blocks.1'}
    """
    if denoiser == "dit":
        return {f"block{i}": f"transformer_blocks.{i}" for i in range(config["num_layers"])}
    n = len(config["down_block_types"])
    return {**{f"{way}{i}": f"{way}_blocks.{i}" for way in ("down", "up") for i in range(n)}, "mid": "mid_block"}


def five(config: Config, denoiser: str) -> tuple[str, ...]:
    """Choose five blocks: two of a U-Net's first stage, the bottleneck, two of the second; a transformer's evenly.

    Examples
    --------
    >>> five({"num_layers": 24}, "dit")
    ('block0', 'block6', 'block12', 'block17', 'block23')
    """
    if denoiser == "dit":
        ends = tuple(f"block{(i * (config['num_layers'] - 1) + 2) // 4}" for i in range(5))
    else:
        n = len(config["down_block_types"])
        ends = ("down0", f"down{max(n - 2, 0)}", "mid", f"up{max(n - 3, 0)}", f"up{n - 1}")
    return tuple(dict.fromkeys(ends))


def sized(pixels: int, config: Config, factor: int, denoiser: str) -> int:
    """Choose the height and width of images.

    Parameters
    ----------
    pixels : int
        Wanted; 0 is the model's own, or the paper's.
    config : mapping
        Of the denoiser.
    factor : int
        Pixels per place of the latent, each way.
    denoiser : {"unet", "dit"}

    Raises
    ------
    InputError
        If the denoiser takes no latents of that size.
    """
    if not (pixels or config["sample_size"]):
        raise InputError("The model's denoiser does not say for which sample_size it was made; set `pixels`.")
    native = int(config["sample_size"] or 0) * factor
    chosen = pixels or (PAPER[1] if native == PAPER[0] else native)
    # The latent must be halved by every block that halves it, or cut into patches of which each has a known place.
    unet = denoiser == "unet"
    grain = factor * int(2 ** (len(config["down_block_types"]) - 1) if unet else config["patch_size"])
    if chosen % grain:
        raise InputError(f"pixels must be a multiple of {grain} for this model; got {chosen}.")
    if not unet and chosen > grain * config["pos_embed_max_size"]:
        raise InputError(f"pixels must be at most {grain * config['pos_embed_max_size']} for this model; got {chosen}.")
    return chosen


def widths_of_text(texts: Sequence[Config], config: Config, denoiser: str, n_more: int) -> dict[str, int]:
    """Count the dimensions of c, of a layer of the (first) text encoder and of the pooled text.

    Parameters
    ----------
    texts : sequence of mapping
        Of the CLIP text encoders, one or two.
    config : mapping
        Of the denoiser.
    denoiser : {"unet", "dit"}
    n_more : int
        Tokens that a transformer is told besides CLIP's.

    Returns
    -------
    dict of str to int
        The entity of the band, none for c itself -> n_dims.
    """
    first, last = texts[0], texts[-1]
    n_tokens = int(first["max_position_embeddings"])
    widths = {"layer": n_tokens * first["hidden_size"]}
    if denoiser == "dit":
        pooled = sum(text["projection_dim"] for text in texts)
        return {"": (n_tokens + n_more) * config["joint_attention_dim"], "part": pooled, **widths}
    pooled = first["hidden_size"] if len(texts) == 1 else last["projection_dim"]
    return {"": n_tokens * sum(text["hidden_size"] for text in texts), "part": pooled, **widths}
