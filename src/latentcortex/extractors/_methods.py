"""What the bands of a latent diffusion model are, in the sentences of a methods section."""

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


def of_diffusion(source: LDM, bands: Sequence[str]) -> str:
    """Write how these bands of a latent diffusion model were made."""
    by_kind: dict[str, list[Band]] = {}
    for name in bands:
        band = Band(name)
        by_kind.setdefault(band.kind, []).append(band)
    flow = source.denoiser == "dit"
    work = "esser2024" if flow else "rombach2022"
    architecture = "with a transformer that matches flows" if flow else "with a U-Net"
    words = [
        f"Features were taken from the latent diffusion model {source.model}, {architecture} [@{work}], for images of "
        f"{source.pixels} x {source.pixels} pixels.",
        *(SENTENCES[kind](source, of_kind) for kind, of_kind in by_kind.items() if kind in SENTENCES),
        *_origin(by_kind),
        *_noise(source, by_kind),
        *_baselines(source, by_kind),
    ]
    return " ".join(words)


def _image_latent(source: LDM, bands: Sequence[Band]) -> str:
    sampled = [band for band in bands if "sampled" in band.entities]
    words = [] if len(sampled) == len(bands) else ["z is the mean of the autoencoder's posterior for an image."]
    return " ".join([*words, *(["z_sampled is a sample of that posterior."] if sampled else [])])


def _text(source: LDM, bands: Sequence[Band]) -> str:
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


def _denoised(source: LDM, bands: Sequence[Band]) -> str:
    sampler = "Euler steps along the flow" if source.denoiser == "dit" else "DDIM with eta 0 [@song2021]"
    words = (
        f"z_c is z after noise was added to it and a part of the denoising steps was done, by {sampler}, given c and "
        f"without guidance: {_places(bands)}. A strength is a share of the {source.n_steps} steps of the timestep grid."
    )
    clean = any(band.entities.get("as") == "x0" for band in bands)
    return words + (" Bands as-x0 are the clean latent that a step predicts." if clean else "")


def _places(bands: Sequence[Band]) -> str:
    """Write at which strengths which steps are done, those of the same steps together."""
    steps: dict[int, set[int]] = {}
    for band in bands:
        steps.setdefault(band.number("strength"), set()).add(band.number("step"))
    alike: dict[tuple[int, ...], list[int]] = {}
    for strength, done in sorted(steps.items()):
        alike.setdefault(tuple(sorted(done)), []).append(strength)
    return "; ".join(
        f"{enumerated(done, 'or')} % of the steps at a strength of {enumerated(strengths, 'or')} %"
        for done, strengths in alike.items()
    )


def _layers(source: LDM, bands: Sequence[Band]) -> str:
    names = enumerated(dict.fromkeys(band.entities["layer"] for band in bands))
    network = "transformer" if source.denoiser == "dit" else "U-Net"
    words = (
        f"Layers are the outputs of the {network}'s blocks {names} in the call that completes a denoising step, given "
        f"c and without guidance: {_places(bands)}"
    )
    words += f". They were averaged over a grid of {source.pool} x {source.pool} fields" if source.pool else ""
    words += f". Wider ones were projected onto {source.n_projected} random directions" if source.n_projected else ""
    blind = any(band.entities.get("branch") == "unconditional" for band in bands)
    return f"{words}." + (" Bands of the unconditional branch were computed without captions." if blind else "")


SENTENCES: Final[Mapping[str, Callable[[LDM, Sequence[Band]], str]]] = {
    "z": _image_latent,
    "c": _text,
    "zc": _denoised,
    "unet": _layers,
    "dit": _layers,
}
"""What each kind of band is, in words."""


def _origin(kinds: Mapping[str, Sequence[Band]]) -> list[str]:
    latents = [{"zc": "z_c"}.get(kind, kind) for kind in LATENTS if kind in kinds]
    return [f"Encoding models of {enumerated(latents)} have been used by @takagi2023."] if latents else []


def _noise(source: LDM, kinds: Mapping[str, Sequence[Band]]) -> list[str]:
    if not set(kinds) & {"zc", "unet", "dit"}:
        return []
    draws = f"averaged over {source.n_seeds} draws" if source.n_seeds > 1 else "drawn once"
    where = ", and noising ended one step later than denoising began, as in the code of CompVis"
    return [f"The noise of each image was {draws}{where if source.start == 'compvis' else ''}."]


def _baselines(source: LDM, kinds: Mapping[str, Sequence[Band]]) -> list[str]:
    words = []
    if source.weights == "untrained" and set(kinds) & {"zc", "unet", "dit"}:
        words.append("As a baseline the denoiser had random weights in place of trained ones.")
    if source.shown == "noise":
        words.append("As a baseline each image was replaced by noise in place of its z.")
    return words
