"""Names of bands and of the models that are made of them: read here, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Self

from latentcortex.errors import InputError

_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9]*(_[a-z]+-[a-zA-Z0-9]+)*")
_PLUS: Final = "+"
"""Between the bands of a model in its name."""


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
        """What the band is: z, c, zc, unet, ..."""
        return self.split("_", 1)[0]

    @property
    def entities(self) -> dict[str, str]:
        """Key -> value of each pair in the name, in its order."""
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
        """Read a model's name in a file; raise `InputError` if a band's is not made as `Band` says."""
        return cls(name.split(_PLUS))

    @property
    def name(self) -> str:
        """Its bands' names, as files, tables and figures join them."""
        return _PLUS.join(self)

    @property
    def short(self) -> str:
        """The name, or of many bands what their names have in common, so that file names stay short.

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
        """Copy and unpickle from the bands."""
        return (tuple(self),)
