"""Which bands the models of an analysis are made of, among those that there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from latentcortex.bands import Band, Model

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
    names : tuple of Band
    """

    names: tuple[Band, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        """Read the names."""
        return cls(tuple(map(Band, names)))

    def select(self, kind: str, **entities: int) -> list[Band]:
        """List the bands of a kind that have these values of its usual entities, in the order of the table.

        Examples
        --------
        >>> BandTable.of(["z", "zc_strength-80_step-50", "zc_strength-80_step-100"]).select("zc", step=100)
        ['zc_strength-80_step-100']
        """
        usual = (band for band in self.names if band.kind == kind and set(band.entities) == USUAL[kind])
        return [band for band in usual if all(band.number(key) == value for key, value in entities.items())]

    def values(self, kind: str, key: str) -> list[int]:
        """List the values of an entity of a kind of bands, ascending."""
        return sorted({band.number(key) for band in self.select(kind)})

    def strength(self, kind: str) -> int:
        """Choose the strength nearest to 80 percent; 0 where the kind has no band."""
        return min(self.values(kind, "strength"), key=lambda s: abs(s - USUAL_STRENGTH), default=0)

    def layers(self) -> list[Model]:
        """List the layers of the denoiser, a U-Net or a transformer, step by step, all of one strength."""
        kind = next((kind for kind in LAYERS if self.select(kind)), LAYERS[0])
        strength = self.strength(kind)
        return [Model(self.select(kind, strength=strength, step=step)) for step in self.values(kind, "step")]

    def latents(self) -> list[Band]:
        """List z, c and z_c at the end of denoising from one strength; of a store without latents all bands."""
        singles = self.select("z") + self.select("c") + self.select("zc", strength=self.strength("zc"), step=100)
        return singles or list(self.names)

    def with_z(self, bands: Sequence[Band]) -> list[Model]:
        """Make a joint model of z and each of these bands; none without z."""
        return [Model(["z", band]) for band in bands if "z" in self.names]


def by_step(models: Sequence[Model]) -> dict[str, list[Band]]:
    """Group single-band models of layers by their denoising step."""
    steps: dict[str, list[Band]] = {}
    for (band,) in models:
        if band.kind in LAYERS:
            steps.setdefault(band.entities["step"], []).append(band)
    return steps
