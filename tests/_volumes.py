"""Volumes, maps and studies of voxels that tests of several rooms need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from latentcortex import _surfaces
from latentcortex.maps import Maps
from latentcortex.space import Volume, projection

MNI = "MNI152NLin2009cAsym"
RAS = np.array([[4.0, 0, 0, -90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
SHAPE = (46, 56, 48)
LAS = RAS @ np.array([[-1.0, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
_TURN = np.deg2rad(12)
_LEAN = np.array([[1, 0, 0], [0, np.cos(_TURN), -np.sin(_TURN)], [0, np.sin(_TURN), np.cos(_TURN)]])
OBLIQUE = np.block([[_LEAN @ RAS[:3, :3], (_LEAN @ RAS[:3, 3])[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
AFFINES = {"RAS": RAS, "LAS": LAS, "oblique": OBLIQUE}
SURFACES = [_surfaces.surface(kind) for kind in ("white", "pial")]
MIDDLE = np.concatenate([(w.coordinates + p.coordinates) / 2 for w, p in zip(*SURFACES, strict=True)])
AT_152 = MIDDLE @ projection.MNI305_TO_MNI152[:3, :3].T + projection.MNI305_TO_MNI152[:3, 3]
"""Middle of cortex in mm of MNI152."""


def whole(affine: np.ndarray = RAS, template: str = "fsaverage5", **more: Any) -> Volume:
    return Volume(np.ones(SHAPE, dtype=bool), affine, MNI, template, **more)


def some(template: str = "", n: int = 40) -> Volume:
    """A few voxels in the back of the left hemisphere."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[12:20, 10:18, 14:22] = True
    chosen = np.random.default_rng(0).choice(np.flatnonzero(mask), n, replace=False)
    mask[:] = False
    mask.ravel()[chosen] = True
    return Volume(mask, RAS, MNI, template)


ABOUT = {"analysis": "latents", "n_stimuli": 40, "unit": "some"}
TESTS = {"correction": "bh", "q": 0.05, "n_tests": 9, "threshold": 0.1, "family": "map", "null": "closed form"}


def planted(space: Any, latents: tuple[str, ...] = ("z", "c", "zc_strength-80_step-100")) -> Maps:
    """Latents of which each predicts a third best; a ceiling; shares at two strengths."""
    n, columns = space.n_voxels, []
    for i, band in enumerate(latents):
        r = np.where(np.arange(n) % 3 == i, 0.6, 0.3).astype(np.float32)
        r[0] = np.nan
        facts = {**ABOUT, "model": band, "band": band}
        columns += [(r, {**facts, "statistic": "r"}), (r * r, {**facts, "statistic": "r2"})]
        columns.append((np.where(np.isnan(r), np.nan, r > 0.2), {**facts, "statistic": "mask", **TESTS}))
        columns.append(((1 - r) / 100, {**facts, "statistic": "p", **TESTS}))
    columns.append((np.full(n, 0.5), {**ABOUT, "analysis": "ceiling", "model": "", "band": "", "statistic": "ceiling"}))
    for band in [f"zc_strength-{s}_step-100" for s in (20, 80)]:
        facts = {**ABOUT, "analysis": "noise-levels", "model": f"z+{band}"}
        columns.append((np.full(n, 0.5), {**facts, "band": "", "statistic": "r"}))
        columns.append((np.full(n, 1e-4), {**facts, "band": "", "statistic": "p", **TESTS}))
        columns.append((np.ones(n), {**facts, "band": "", "statistic": "mask", **TESTS}))
        columns += [(np.full(n, 0.1), {**facts, "band": one, "statistic": "shareR2"}) for one in ("z", band)]
    return Maps.build(space, columns)


def atlas(folder: Path, affine: np.ndarray = RAS, reference: str = MNI, dtype: Any = np.int16) -> Path:
    """Left is 1, right is 2, in front of y = 0 nothing."""
    folder.mkdir()
    (folder / "atlas.json").write_text(json.dumps({"name": "halves", "space": reference}))
    (folder / "x_dseg.tsv").write_text("index\tname\n1\tleft\n2\tright\n")
    places = whole(affine, "").coordinates.reshape(*SHAPE, 3)
    labels = np.where(places[..., 1] > 0, 0, np.where(places[..., 0] < 0, 1, 2))
    nib.save(
        nib.Nifti1Image((labels * (1.5 if dtype is np.float32 else 1)).astype(dtype), affine), folder / "x_dseg.nii.gz"
    )
    return folder


def on_bundled(bundled: Path, folder: Path) -> Volume:
    """All voxels of the transform `fullhead`."""
    grid = nib.load(bundled / "transforms" / "fullhead" / "reference.nii.gz")
    nib.save(nib.Nifti1Image(np.ones(grid.shape, dtype=np.uint8), grid.affine), folder / "mask.nii.gz")
    return Volume.read(folder / "mask.nii.gz", reference="S1", template=str(bundled), transform="fullhead")


def on_bert(bert: str) -> Volume:
    """Voxels of 4 mm round the cortex of a subject of FreeSurfer."""
    return Volume(np.ones(SHAPE, dtype=bool), RAS, "T1w", bert)
