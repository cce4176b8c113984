"""Datasets: where stimuli and responses come from. Add a file here and a line to the shelf."""

from __future__ import annotations

from typing import Any, Final

from latentcortex._shelf import Shelf
from latentcortex.datasets._voxels import check_participants, read_voxels, responses_of_slice
from latentcortex.datasets.dataset import Anatomical, Dataset, DescribedDataset, Probe, WithAtlases, WithRegions

__all__ = [
    "SHELF",
    "Anatomical",
    "Dataset",
    "DescribedDataset",
    "Probe",
    "WithAtlases",
    "WithRegions",
    "check_participants",
    "make",
    "read_voxels",
    "responses_of_slice",
]

SHELF: Final = Shelf(
    "dataset",
    {
        "algonauts2023": "latentcortex.datasets.algonauts2023:Algonauts2023",
        "bdpy": "latentcortex.datasets.bdpy:BdPy",
        "folder": "latentcortex.datasets.folder:Folder",
        "glmsingle": "latentcortex.datasets.glmsingle:GLMsingle",
        "nsd": "latentcortex.datasets.nsd:NSD",
        "phantom": "latentcortex.datasets.phantom:Phantom",
    },
)


@SHELF.documented
def make(name: str, **arguments: Any) -> Any:
    """Make a dataset by name."""
    return SHELF.make(name, **arguments)


def __getattr__(name: str) -> Any:
    """Find a class on the shelf by its own name; it is imported only then."""
    return SHELF.named(name)
