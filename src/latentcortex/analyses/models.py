"""Which bands the models of an analysis are made of, among those that there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from latentcortex.features import Band

Bands = tuple[str, ...]
"""The names of the bands of one model."""
LAYERS: Final = ("unet", "dit")
"""Kinds of bands that are layers: of a U-Net, or of a transformer in its place."""
USUAL: Final[dict[str, set[str]]] = {
    "z": set(),
    "c": set(),
    "zc": {"strength", "step"},
    **{kind: {"layer", "strength", "step"} for kind in LAYERS},
}
"""Entities of the bands that canonical analyses look at; a band with others is there for analyses of one's own."""
USUAL_STRENGTH: Final = 80
"""Percent; analyses of one strength take the nearest to it."""


@dataclass(frozen=True)
class BandTable:
    """The bands that an extractor gives, selected by their kind and entities.

    Parameters
    ----------
    names : tuple of str
    """

    names: Bands

    def select(self, kind: str, **entities: int) -> list[str]:
        """List the bands of a kind that have these values of its usual entities, in the order of the table.

        Examples
        --------
        >>> BandTable(("z", "zc_strength-80_step-50", "zc_strength-80_step-100")).select("zc", step=100)
        ['zc_strength-80_step-100']
        """
        selected = []
        for name in self.names:
            band = Band.parse(name)
            usual = set(band.entities) == USUAL[kind]
            if band.kind == kind and usual and all(band.number(key) == value for key, value in entities.items()):
                selected.append(name)
        return selected

    def values(self, kind: str, key: str) -> list[int]:
        """List the values of an entity of a kind of bands, ascending."""
        return sorted({Band.parse(name).number(key) for name in self.select(kind)})

    def strength(self, kind: str) -> int:
        """Choose the strength nearest to 80 percent; 0 where the kind has no band."""
        return min(self.values(kind, "strength"), key=lambda s: abs(s - USUAL_STRENGTH), default=0)

    def layers(self) -> list[Bands]:
        """List the layers of the denoiser, a U-Net or a transformer, step by step, all of one strength."""
        kind = next((kind for kind in LAYERS if self.select(kind)), LAYERS[0])
        strength = self.strength(kind)
        return [tuple(self.select(kind, strength=strength, step=step)) for step in self.values(kind, "step")]

    def latents(self) -> list[str]:
        """List z, c and z_c at the end of denoising from one strength; of a store without latents all bands."""
        singles = self.select("z") + self.select("c") + self.select("zc", strength=self.strength("zc"), step=100)
        return singles or list(self.names)

    def with_z(self, names: Sequence[str]) -> list[Bands]:
        """Make a joint model of z and each of these bands; none without z."""
        return [("z", name) for name in names if "z" in self.names]


def by_step(models: Sequence[Bands]) -> dict[str, list[str]]:
    """Group single-band models of layers by their denoising step."""
    steps: dict[str, list[str]] = {}
    for (name,) in models:
        band = Band.parse(name)
        if band.kind in LAYERS:
            steps.setdefault(band.entities["step"], []).append(name)
    return steps
