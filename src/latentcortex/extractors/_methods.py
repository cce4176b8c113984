"""Sentences of a methods section about the bands of a latent diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from latentcortex.bands import Band

if TYPE_CHECKING:
    from latentcortex.extractors.ldm import LDM

LATENTS: Final = ("z", "c", "zc")


def enumerated(values: Iterable[object], last: str = "and") -> str:
    """Write values with commas, and a word before the last.

    Examples
    --------
    >>> enumerated(["z"]), enumerated(["z", "c", "z_c"])
    ('z', 'z, c and z_c')
    """
    *first, final = map(str, values)
    return f"{', '.join(first)} {last} {final}" if first else final


def describe_bands(extractor: LDM, bands: Sequence[str]) -> str:
    """Write how these bands of a latent diffusion model were made."""
    by_kind: dict[str, list[Band]] = {}
    for name in bands:
        band = Band(name)
        by_kind.setdefault(band.kind, []).append(band)
    flow = extractor.denoiser == "dit"
    work = "esser2024" if flow else "rombach2022"
    architecture = "with a transformer that matches flows" if flow else "with a U-Net"
    words = [
        f"Features were taken from the latent diffusion model {extractor.model}, {architecture} [@{work}], for images "
        f"of {extractor.pixels} x {extractor.pixels} pixels.",
        *(SENTENCES[kind](extractor, of_kind) for kind, of_kind in by_kind.items() if kind in SENTENCES),
        *_origin(by_kind),
        *_noise(extractor, by_kind),
        *_baselines(extractor, by_kind),
    ]
    return " ".join(words)


def _image_latent(extractor: LDM, bands: Sequence[Band]) -> str:
    """Write what the bands z and z_sampled are."""
    sampled = [band for band in bands if "sampled" in band.entities]
    words = [] if len(sampled) == len(bands) else ["z is the mean of the autoencoder's posterior for an image."]
    return " ".join([*words, *(["z_sampled is a sample of that posterior."] if sampled else [])])


def _text(extractor: LDM, bands: Sequence[Band]) -> str:
    """Write what c, layers of the text encoder and the pooled text are."""
    whole = [band for band in bands if not band.entities]
    words = (
        ["c is the text embedding that the denoiser is given, averaged over the captions of an image."] if whole else []
    )
    layers = [band.entities["layer"] for band in bands if "layer" in band.entities]
    if layers:
        words.append(f"Hidden states {enumerated(layers)} of the text encoder were averaged over captions likewise.")
    if any("part" in band.entities for band in bands):
        words.append("The pooled text embedding was averaged over captions likewise.")
    return " ".join(words)


def _denoised(extractor: LDM, bands: Sequence[Band]) -> str:
    """Write what z_c is, and at which strengths and steps."""
    sampler = "Euler steps along the flow" if extractor.denoiser == "dit" else "DDIM with eta 0 [@song2021]"
    words = (
        f"z_c is z after noise was added to it and a part of the denoising steps was done, by {sampler}, given c and "
        f"without guidance: {_strengths_and_steps(bands)}. A strength is a share of the "
        f"{extractor.n_steps} steps of the timestep grid."
    )
    clean = any(band.entities.get("as") == "x0" for band in bands)
    return words + (" Bands as-x0 are the clean latent that a step predicts." if clean else "")


def _strengths_and_steps(bands: Sequence[Band]) -> str:
    """Write at which strengths which steps are done, those of the same steps together."""
    steps: dict[int, set[int]] = {}
    for band in bands:
        steps.setdefault(band.number("strength"), set()).add(band.number("step"))
    strengths_of: dict[tuple[int, ...], list[int]] = {}
    for strength, done in sorted(steps.items()):
        strengths_of.setdefault(tuple(sorted(done)), []).append(strength)
    return "; ".join(
        f"{enumerated(done, 'or')} % of the steps at a strength of {enumerated(strengths, 'or')} %"
        for done, strengths in strengths_of.items()
    )


def _layers(extractor: LDM, bands: Sequence[Band]) -> str:
    """Write which layers of the denoiser were taken, and how they were made smaller."""
    names = enumerated(dict.fromkeys(band.entities["layer"] for band in bands))
    network = "transformer" if extractor.denoiser == "dit" else "U-Net"
    words = (
        f"Layers are the outputs of the {network}'s blocks {names} in the call that completes a denoising step, given "
        f"c and without guidance: {_strengths_and_steps(bands)}"
    )
    words += f". They were averaged over a grid of {extractor.pool} x {extractor.pool} fields" if extractor.pool else ""
    words += (
        f". Wider ones were projected onto {extractor.n_projected} random directions" if extractor.n_projected else ""
    )
    unconditional = any(band.entities.get("branch") == "unconditional" for band in bands)
    return f"{words}." + (" Bands of the unconditional branch were computed without captions." if unconditional else "")


SENTENCES: Final[Mapping[str, Callable[[LDM, Sequence[Band]], str]]] = {
    "z": _image_latent,
    "c": _text,
    "zc": _denoised,
    "unet": _layers,
    "dit": _layers,
}
"""Kind of band -> what writes the sentences about the bands of that kind."""


def _origin(kinds: Mapping[str, Sequence[Band]]) -> list[str]:
    """Cite who has used latents as bands of encoding models."""
    latents = [{"zc": "z_c"}.get(kind, kind) for kind in LATENTS if kind in kinds]
    return [f"Encoding models of {enumerated(latents)} have been used by @takagi2023."] if latents else []


def _noise(extractor: LDM, kinds: Mapping[str, Sequence[Band]]) -> list[str]:
    """Write how often noise was drawn, and where noising ended."""
    if not set(kinds) & {"zc", "unet", "dit"}:
        return []
    draws = f"averaged over {extractor.n_seeds} draws" if extractor.n_seeds > 1 else "drawn once"
    later = ", and noising ended one step later than denoising began, as in the code of CompVis"
    return [f"The noise of each image was {draws}{later if extractor.noise_start == 'compvis' else ''}."]


def _baselines(extractor: LDM, kinds: Mapping[str, Sequence[Band]]) -> list[str]:
    """Write which baseline the extractor is, if it is one."""
    words = []
    if extractor.weights == "untrained" and set(kinds) & {"zc", "unet", "dit"}:
        words.append("As a baseline the denoiser had random weights in place of trained ones.")
    if extractor.input == "noise":
        words.append("As a baseline each image was replaced by noise in place of its z.")
    return words
