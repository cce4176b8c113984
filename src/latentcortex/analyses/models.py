"""Which joint models each canonical analysis has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from latentcortex._arrays import listed
from latentcortex._shelf import unknown
from latentcortex.errors import InputError
from latentcortex.features import Band


@dataclass(frozen=True)
class Analysis:
    """A named set of joint models.

    Parameters
    ----------
    name : str
    models : tuple of tuple of str
        The bands of each model.
    """

    name: str
    models: tuple[tuple[str, ...], ...]


def canonical(name: str, bands: Sequence[str]) -> Analysis:
    """Choose the models of a canonical analysis among the bands that there are.

    `latents`: each latent alone (z_c at 80 percent strength, or the nearest). `noise-levels`: z with z_c at each
    strength. `denoising-steps`: z with z_c at each step. `unet-layers`: each layer alone at each step, of a U-Net or
    of a transformer in its place. `unet-partition`: the layers of one step jointly. `learning-curve`: z with z_c, at
    several numbers of fitted stimuli. `generalisation`: each latent alone, on test stimuli that are less and less like
    the fitted ones.

    Raises
    ------
    InputError
        If the name is not known, or no band that it needs is there.
    """
    if name not in ANALYSES:
        raise unknown("analysis", name, ANALYSES)
    models = tuple(ANALYSES[name](_Atlas(tuple(bands))))
    if not models:
        raise InputError(
            f"Analysis {name!r} needs {NEEDS[name]}; there are {listed(bands)}. Extract them, or leave it out of `run` "
            "in [analyses]; 'latents' takes any bands."
        )
    return Analysis(name, models)


LAYERS: Final = ("unet", "dit")
"""Kinds of bands that are layers: of a U-Net, or of a transformer in its place."""
USUAL: Final[dict[str, set[str]]] = {
    "z": set(),
    "c": set(),
    "zc": {"strength", "step"},
    **{kind: {"layer", "strength", "step"} for kind in LAYERS},
}
"""Entities of the bands that canonical analyses look at; a band with others is there for analyses of one's own."""


@dataclass(frozen=True)
class _Atlas:
    """The bands that there are, by what they are."""

    names: tuple[str, ...]

    def of(self, kind: str, **entities: int) -> list[str]:
        found = []
        for name in self.names:
            band = Band.parse(name)
            usual = set(band.entities) == USUAL[kind]
            if band.kind == kind and usual and all(band.number(key) == value for key, value in entities.items()):
                found.append(name)
        return found

    def values(self, kind: str, key: str) -> list[int]:
        return sorted({Band.parse(name).number(key) for name in self.of(kind)})

    def strength(self, kind: str) -> int:
        """Choose the strength nearest to 80 percent."""
        return min(self.values(kind, "strength"), key=lambda s: abs(s - 80), default=0)

    @property
    def denoiser(self) -> str:
        """The kind of the layers that there are."""
        return next((kind for kind in LAYERS if self.of(kind)), LAYERS[0])

    def layers(self) -> list[tuple[str, ...]]:
        """List the layers of the denoiser, step by step, all of one strength."""
        kind = self.denoiser
        strength = self.strength(kind)
        return [tuple(self.of(kind, strength=strength, step=step)) for step in self.values(kind, "step")]


def _latents(atlas: _Atlas) -> list[tuple[str, ...]]:
    singles = atlas.of("z") + atlas.of("c") + atlas.of("zc", strength=atlas.strength("zc"), step=100)
    # A store without latents still has bands to look at, one by one.
    return [(name,) for name in singles or atlas.names]


def _noise_levels(atlas: _Atlas) -> list[tuple[str, ...]]:
    levels = [name for s in atlas.values("zc", "strength") for name in atlas.of("zc", strength=s, step=100)]
    return [("z", name) for name in levels if "z" in atlas.names]


def _denoising_steps(atlas: _Atlas) -> list[tuple[str, ...]]:
    stages = [n for k in atlas.values("zc", "step") for n in atlas.of("zc", strength=atlas.strength("zc"), step=k)]
    return [("z", name) for name in stages if "z" in atlas.names]


def _unet_layers(atlas: _Atlas) -> list[tuple[str, ...]]:
    return [(name,) for layers in atlas.layers() for name in layers]


def _unet_partition(atlas: _Atlas) -> list[tuple[str, ...]]:
    return atlas.layers()


def _learning_curve(atlas: _Atlas) -> list[tuple[str, ...]]:
    strength = atlas.strength("zc")
    return [("z", name) for name in atlas.of("zc", strength=strength, step=100) if "z" in atlas.names]


ANALYSES: Final[dict[str, Callable[[_Atlas], list[tuple[str, ...]]]]] = {
    "latents": _latents,
    "noise-levels": _noise_levels,
    "denoising-steps": _denoising_steps,
    "unet-layers": _unet_layers,
    "unet-partition": _unet_partition,
    "learning-curve": _learning_curve,
    "generalisation": _latents,
}
"""Every analysis, and how its models are chosen among the bands that there are."""
NEEDS: Final = {
    "latents": "a band",
    "noise-levels": "z and z_c at several strengths, such as zc_strength-80_step-100",
    "denoising-steps": "z and z_c at several steps, such as zc_strength-80_step-50",
    "unet-layers": "layers, such as unet_layer-mid_strength-80_step-50",
    "unet-partition": "layers, such as unet_layer-mid_strength-80_step-50",
    "learning-curve": "z and z_c, such as zc_strength-80_step-100",
    "generalisation": "a band",
}
"""The bands without which each has no model, in words."""
CANONICAL: Final = ("latents", "noise-levels", "denoising-steps", "unet-layers", "unet-partition")
"""Those that a study runs unless it names others."""


def by_step(models: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
    """Group single-band models of layers by their denoising step."""
    steps: dict[str, list[str]] = {}
    for (name,) in models:
        band = Band.parse(name)
        if band.kind in LAYERS:
            steps.setdefault(band.entities["step"], []).append(name)
    return steps
