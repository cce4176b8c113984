"""Names of the bands of a latent diffusion model: which are possible, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from latentcortex._arrays import listed
from latentcortex._shelf import unknown
from latentcortex.bands import Band
from latentcortex.errors import InputError
from latentcortex.extractors._configuration import DENOISERS

ENTITIES: Final[dict[str, tuple[str, ...]]] = {
    "z": ("sampled",),
    "c": ("layer", "part"),
    "zc": ("strength", "step", "as"),
    "unet": ("layer", "strength", "step", "branch"),
    "dit": ("layer", "strength", "step", "branch"),
}
"""Kinds of bands, each with the entities that it can have."""
WORDS: Final = {"part": ("pooled",), "as": ("x0",), "branch": ("unconditional", "conditional")}
"""Entities whose values are words, each with its words."""
EXAMPLES: Final = ("z", "c", "zc_strength-80_step-100")
LAYERS: Final = {"unet": "unet_layer-mid_strength-80_step-50", "dit": "dit_layer-block0_strength-80_step-50"}


def check_name(name: str, *, n_steps: int, layers: Collection[str], n_text_layers: int, denoiser: str) -> None:
    """Raise `InputError` for the name of a band that a model does not have.

    Parameters
    ----------
    name : str
    n_steps : int
        Length of the timestep grid.
    layers : collection of str
        Short names of the denoiser's modules.
    n_text_layers : int
    denoiser : {"unet", "dit"}
        Kind of the bands that are layers.
    """
    band = Band(name)
    if band.kind not in ENTITIES or band.kind in DENOISERS.keys() - {denoiser}:
        raise unknown("band of ldm", name, (*EXAMPLES, LAYERS[denoiser]))
    for key in band.entities:
        if key not in ENTITIES[band.kind]:
            raise unknown(f"entity of band {name}:", key, ENTITIES[band.kind])
    for key, words in WORDS.items():
        if key in band.entities and band.entities[key] not in words:
            raise unknown(f"{key} of band {name}:", band.entities[key], words)
    if band.kind == "z" and band.entities:
        band.number("sampled")
    if band.kind == "c" and "layer" in band.entities and band.number("layer") > n_text_layers:
        raise InputError(f"Band {name}: the text encoder has the layers 0..{n_text_layers}.")
    if band.kind in ("zc", denoiser):
        _check_step(name, band, n_steps)
    if band.kind == denoiser and band.entities.get("layer") not in layers:
        raise unknown("layer", band.entities.get("layer", ""), layers)


def _check_step(name: str, band: Band, n_steps: int) -> None:
    """Raise `InputError` unless a band's strength is at least one step, and its step within the strength's."""
    strength, step = band.number("strength"), band.number("step")
    lowest = 0 if band.kind == "zc" and "as" not in band.entities else 1
    if not (strength * n_steps >= 100 and strength <= 100 and lowest <= step <= 100):
        raise InputError(f"Band {name}: strength must give at least one step, and step lie in {lowest}..100.")


def percents(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Check a list of percents; return it ascending."""
    wrong = [value for value in values if type(value) is not int or not 1 <= value <= 100]
    if wrong or not values:
        raise InputError(f"{name} must be whole percents from 1 to 100; got {listed(values) or 'none'}.")
    return tuple(sorted(set(values)))
