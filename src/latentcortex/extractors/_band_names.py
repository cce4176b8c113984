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
"""Kinds of bands, each with the entities that it can have.

sampled-K is a draw from the autoencoder's posterior with seed K; layer-L of c one of the text encoder's hidden states,
part-pooled its pooled embedding; strength the noise that was added, in percent of the timestep grid; step how much of
the denoising from there is done, in percent; as-x0 the estimate of the clean latent; branch one half of classifier-free
guidance.
"""
ALLOWED_VALUES: Final = {"part": ("pooled",), "as": ("x0",), "branch": ("unconditional", "conditional")}
"""Values that are allowed for the entities that are no numbers."""
EXAMPLES: Final = ("z", "c", "zc_strength-80_step-100")
LAYER_EXAMPLES: Final = {"unet": "unet_layer-mid_strength-80_step-50", "dit": "dit_layer-block0_strength-80_step-50"}
"""Of each denoiser the band of a layer, for error messages."""


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
        Layers of the text encoder; layer 0 is what it embeds tokens as.
    denoiser : {"unet", "dit"}
        Denoiser of the model, and the kind of the bands that hold activations of its layers.
    """
    band = Band(name)
    if band.kind not in ENTITIES or band.kind in DENOISERS.keys() - {denoiser}:
        raise unknown("band of ldm", name, (*EXAMPLES, LAYER_EXAMPLES[denoiser]))
    for key in band.entities:
        if key not in ENTITIES[band.kind]:
            raise unknown(f"entity of band {name}:", key, ENTITIES[band.kind])
    for key, words in ALLOWED_VALUES.items():
        if key in band.entities and band.entities[key] not in words:
            raise unknown(f"{key} of band {name}:", band.entities[key], words)
    if band.kind == "z" and band.entities:
        band.number("sampled")  # refuses what is no whole number
    if band.kind == "c" and "layer" in band.entities and band.number("layer") > n_text_layers:
        raise InputError(f"Band {name}: the text encoder has the layers 0..{n_text_layers}.")
    if band.kind in ("zc", denoiser):
        _check_step(name, band, n_steps)
    if band.kind == denoiser and band.entities.get("layer") not in layers:
        raise unknown("layer", band.entities.get("layer", ""), layers)


def _check_step(name: str, band: Band, n_steps: int) -> None:
    """Raise `InputError` unless a band's strength gives at least one step, and its step is a percent of those steps."""
    strength, step = band.number("strength"), band.number("step")
    # Step 0 is the noised latent, for which the denoiser has not run yet.
    lowest = 0 if band.kind == "zc" and "as" not in band.entities else 1
    if not (strength * n_steps >= 100 and strength <= 100 and lowest <= step <= 100):
        raise InputError(
            f"Band {name}: strength must give at least one step and be at most 100, and step lie in {lowest}..100."
        )


def percents(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Check a list of percents; return it ascending, each once."""
    wrong = [value for value in values if type(value) is not int or not 1 <= value <= 100]
    if wrong or not values:
        raise InputError(f"{name} must be whole percents from 1 to 100; got {listed(values) or 'none'}.")
    return tuple(sorted(set(values)))
