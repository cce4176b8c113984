"""Names of bands, feature spaces with a ridge penalty of their own, and of models, the bands that are fitted together.

Only this module takes names apart and puts them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Self

from latentcortex.errors import InputError

_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9]*(_[a-z]+-[a-zA-Z0-9]+)*")
_SEPARATOR: Final = "+"
"""Joins the names of bands in the name of a model."""


class Band(str):
    """The name of a band, made like `kind_key-value_key-value`; a string that knows its parts.

    Raises
    ------
    InputError
        If the name is not made like that.

    Examples
    --------
    >>> band = Band("zc_strength-80_step-100")
    >>> band.kind, band.entities, band.number("strength")
    ('zc', {'strength': '80', 'step': '100'}, 80)
    >>> Band("z") == "z"
    True
    """

    __slots__ = ()

    def __new__(cls, name: str) -> Self:
        """Check the name."""
        if not _NAME.fullmatch(name):
            raise InputError(f"Band {str(name)!r} is not a name; expected for example z or zc_strength-80_step-100.")
        return super().__new__(cls, name)

    @property
    def kind(self) -> str:
        """First part of the name: z (image latent), c (text embedding), zc (denoised latent), unet or dit (layers)."""
        return self.split("_", 1)[0]

    @property
    def entities(self) -> dict[str, str]:
        """Key -> value of each pair, in the order of the name."""
        return dict(pair.split("-", 1) for pair in self.split("_")[1:])

    def number(self, key: str) -> int:
        """Read an entity as a whole number.

        Raises
        ------
        InputError
            If it is missing, or no whole number.
        """
        value = self.entities.get(key, "")
        if not value.isdecimal():
            raise InputError(f"A band of kind {self.kind} needs {key}-NUMBER; got {value or 'nothing'}.")
        return int(value)


class Model(tuple[Band, ...]):
    """The bands that one model is fitted to, in their order.

    Parameters
    ----------
    bands : iterable of str

    Examples
    --------
    >>> Model(["z", "zc_strength-80_step-100"]).name
    'z+zc_strength-80_step-100'
    >>> Model.parse("z+zc_strength-80_step-100")[1].number("step")
    100
    """

    __slots__ = ()

    def __new__(cls, bands: Iterable[str]) -> Self:
        """Check the name of each band."""
        return super().__new__(cls, map(Band, bands))

    @classmethod
    def parse(cls, name: str) -> Self:
        """Make a model from its name, as files and tables have it; raise `InputError` if a band's is not one."""
        return cls(name.split(_SEPARATOR))

    @property
    def name(self) -> str:
        """Its bands' names, as files, tables and figures join them."""
        return _SEPARATOR.join(self)

    @property
    def short(self) -> str:
        """The name, or of three bands and more the parts that all their names share, so that file names stay short.

        Two models may share it; nothing is read back from it.

        Examples
        --------
        >>> Model(["unet_layer-mid_step-50", "unet_layer-up0_step-50", "unet_layer-up2_step-50"]).short
        'unet_step-50'
        """
        if len(self) < 3:
            return self.name
        parts = [band.split("_") for band in self]
        return "_".join(part for part in parts[0] if all(part in others for others in parts)) or self.name

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def __getnewargs__(self) -> tuple[tuple[Band, ...]]:
        """Return what `__new__` is given where a copy is made or unpickled."""
        return (tuple(self),)
