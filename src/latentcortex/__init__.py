"""Which part of a latent diffusion model explains which part of cortex, and how sure one may be of it.

The public names are found when they are asked for, so that `import latentcortex` costs nothing.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:  # `python -m` would import a `typing.py` of the current folder here, before __main__ can help it
    from typing import Any

_NAMES = {
    "Stimuli": "stimuli",
    "Responses": "responses",
    "Features": "features",
    "Maps": "maps",
    "Splits": "splits",
    "Surface": "space",
    "Volume": "space",
    "Unlocated": "space",
    "Atlas": "space",
    "Encoder": "encoding",
    "Study": "study",
    "extract": "extraction",
    "Decoder": "decoding",
    "reconstruct": "reconstruction",
    "BandedRidge": "estimators.banded_ridge",
    "plot_flatmap": "plotting",
    "inspect_voxel": "inspection",
}
_MODULES = (
    "datasets",
    "estimators",
    "evaluation",
    "extractors",
    "inference",
    "plotting",
    "reconstructors",
    "reporting",
    "scoring",
    "statistics",
)

__all__ = ["__version__", *sorted(_NAMES), *_MODULES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("latentcortex")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
