"""A study of voxels in a mask: what it writes, what it refuses and what its fingerprint covers."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from _volumes import MNI, RAS, SHAPE, atlas, on_bert, planted, some, whole

import latentcortex as lc
from latentcortex import cli
from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.space import Volume
from latentcortex.study import Study

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def volume_study(folder_study: Path) -> Path:
    """The study of 30 voxels, which are in a mask of MNI152."""
    data = folder_study.parent / "data"
    nib.save(nib.Nifti1Image(some(n=30).mask.astype(np.uint8), RAS), data / "mask.nii.gz")
    told = f'root = "data"\nmask = "mask.nii.gz"\nreference = "{MNI}"\n'
    folder_study.write_text(folder_study.read_text().replace('root = "data"\n', told))
    return folder_study


def append(study: Path, *lines: str) -> None:
    """Add keys to [dataset]."""
    study.write_text(study.read_text().replace("[dataset]\n", "[dataset]\n" + "\n".join(lines) + "\n"))


def test_a_study_of_a_mask_writes_valid_bids_and_a_report_that_is_made_again(
    volume_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, moved = tmp_path / "out", tmp_path / "elsewhere"
    append(volume_study, 'background = "T1w.nii.gz"')
    places = whole(template="").coordinates
    head = np.exp(-(((places / (70, 90, 65)) ** 2).sum(1) ** 3)).reshape(SHAPE).astype(np.float32)
    nib.save(nib.Nifti1Image(head, RAS), volume_study.parent / "data" / "T1w.nii.gz")
    assert cli.main(["run", str(volume_study), "--out", str(out), "--quiet"]) == 0
    page = (out / "sub-01.html").read_text()
    assert "Voxels are those of a mask in MNI152NLin2009cAsym (4 x 4 x 4 mm)." in page
    assert "On axial slices" in page
    assert {path.stem for path in (out / "sub-01" / "figures").iterdir()} == {
        "ceiling-slices",
        "latents-slices",
        "latents-against-ceiling",
    }
    rows = json.loads((out / "summary.json").read_text())["results"]
    assert rows[0]["n_voxels"] == 30
    assert 9 <= rows[0]["n_significant"] <= 12  # ten are driven by the pixels
    maps = Maps.load(out, participant="01")
    found = np.nonzero(maps.to_image(statistic="mask").get_fdata() == 1)
    assert len(set(maps.space.numbers[found]) & set(range(10))) >= 9  # the first columns of the responses
    shutil.rmtree(out / "features")
    shutil.rmtree(out / "sub-01" / "figures")
    out.rename(moved)
    assert cli.main(["report", str(moved)]) == 0
    assert (moved / "sub-01.html").read_text() == page
    capsys.readouterr()
    (moved / "sub-01" / "sub-01_background.nii.gz").unlink()
    assert cli.main(["report", str(moved)]) == 2
    assert "the anatomy behind the slices" in capsys.readouterr().err


def test_derivatives_of_a_volume_pass_the_bids_validator(volume_study: Path, tmp_path: Path) -> None:
    pytest.importorskip("bids_validator_deno", reason="needs bids-validator-deno")
    append(volume_study, 'template = "fsaverage5"', 'background = "mask.nii.gz"')
    Study.read(volume_study).run(tmp_path / "out", progress=False)
    command = [str(Path(sys.executable).with_name("bids-validator-deno")), str(tmp_path / "out"), "--ignoreWarnings"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stdout


def test_a_study_on_a_cortex_says_how_voxels_came_there(volume_study: Path, tmp_path: Path) -> None:
    append(volume_study, 'template = "fsaverage5"')
    volume_study.write_text(
        volume_study.read_text() + f'\n[report]\natlas = "{atlas(tmp_path / "halves").as_posix()}"\n'
    )
    Study.read(volume_study).run(tmp_path / "out", progress=False)
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "8 points between 10% and 90% of the way from the white to the pial surface" in page
    assert re.search(r"FreeSurfer.{1,8}s matrix; \d+ of the 30 voxels are met by a vertex", page)
    assert {path.stem for path in (tmp_path / "out" / "sub-01" / "figures").iterdir()} == {
        "ceiling",
        "latents-against-ceiling",
        "latents-flat",
        "latents-inflated",
        "latents-slices",
    }
    table = pd.read_csv(tmp_path / "out" / "sub-01" / "sub-01_rois.tsv", sep="\t", na_values="n/a")
    assert set(table.loc[table["roi"] == "left", "n_voxels"]) == {30}
    assert set(table.loc[table["roi"] == "right", "n_voxels"]) == {0}


def test_the_fingerprint_covers_the_mask(volume_study: Path) -> None:
    folder = {"root": str(volume_study.parent / "data"), "mask": "mask.nii.gz", "reference": MNI}
    before = lc.datasets.make("folder", **folder).fingerprint("01")
    assert lc.datasets.make("folder", **folder).fingerprint("01") == before
    assert lc.datasets.make("folder", **folder, template="fsaverage5").fingerprint("01") != before
    path = volume_study.parent / "data" / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.roll(nib.load(path).get_fdata(), 1, axis=0).astype(np.uint8), RAS), path)
    assert lc.datasets.make("folder", **folder).fingerprint("01") != before


def image_of(values: np.ndarray, affine: np.ndarray = RAS) -> Callable[[Path], None]:
    return lambda path: nib.save(nib.Nifti1Image(values, affine), path)


def no_affine(path: Path) -> None:
    image = nib.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), RAS)
    image.header["srow_x"], image.header["vox_offset"], image.header["sform_code"] = np.nan, 352, 2
    content = image.header.binaryblock + bytes(4) + np.ones(SHAPE, dtype=np.uint8).tobytes()
    path.write_bytes(gzip.compress(content))


MASKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "is missing; expected a NIfTI image"),
    "text": (lambda path: path.write_bytes(b"mask"), "is not a NIfTI image, or damaged"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:200]), "is not a NIfTI image, or damaged"),
    "grey": (image_of(np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10)), "of 0 and 1: threshold it"),
    "nan": (image_of(np.full((5, 5, 5), np.nan, dtype=np.float32)), "of 0 and 1: threshold it"),
    "labels": (image_of(np.arange(27, dtype=np.int16).reshape(3, 3, 3)), "holds 0, 1, 2, 3 and 23 more"),
    "4D": (image_of(np.ones((3, 3, 3, 2), dtype=np.uint8)), "is (3, 3, 3, 2); expected a mask (x, y, z)"),
    "empty": (image_of(np.zeros((3, 3, 3), dtype=np.uint8)), "has no voxel"),
    "nan affine": (no_affine, "affine must be a finite matrix"),
    "other count": (
        image_of(np.ones((3, 3, 3), dtype=np.uint8)),
        "responses.npy has 30 columns, {mask} 27 voxels; expected one column per voxel of the mask",
    ),
}


@pytest.mark.parametrize("fault", MASKS)
def test_a_mask_that_cannot_be_used_is_one_line(
    fault: str, volume_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, says = MASKS[fault]
    path = volume_study.parent / "data" / "mask.nii.gz"
    spoil(path)
    assert cli.main(["run", str(volume_study), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err.strip()
    assert says.format(mask=path) in said
    assert str(path) in said
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('template = "fsaverage9"', "fsaverage9"),
        ('transform = "fullhead"', "`transform` says where a cortex is; give `template`, too"),
        ('background = "no.nii.gz"', "no.nii.gz is missing"),
        ('refrence = "T1w"', "Did you mean 'reference'"),
    ],
)
def test_a_key_about_a_volume_that_is_wrong_is_one_line(
    line: str, says: str, volume_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(volume_study, line)
    assert cli.main(["run", str(volume_study), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert "\n" not in said


def test_what_belongs_to_a_mask_is_given_with_it(volume_study: Path) -> None:
    root = str(volume_study.parent / "data")
    with pytest.raises(InputError, match="`mask` in \\[dataset\\] needs `reference`"):
        lc.datasets.make("folder", root=root, mask="mask.nii.gz")
    for key in ("reference", "transform", "background"):
        with pytest.raises(InputError, match=f"`{key}` in \\[dataset\\] is about voxels of a volume"):
            lc.datasets.make("folder", root=root, **{key: "T1w"})


def test_a_viewer_needs_a_cortex(volume_study: Path) -> None:
    from latentcortex.plotting._viewer_maps import viewer_maps

    with pytest.raises(InputError, match="without a known position on cortex"):
        viewer_maps(planted(some()), None)
    template, _, views = viewer_maps(planted(some("fsaverage5")), None)
    assert template == "fsaverage5"
    assert any(np.isfinite(view.values).any() for view, about in views if about["heading"] == "r")


def test_a_mask_with_a_fourth_axis_of_one_is_a_mask_and_of_two_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for n in (1, 2):
        nib.save(nib.Nifti1Image(np.ones((*SHAPE, n), dtype=np.uint8), RAS), tmp_path / f"{n}.nii.gz")
    assert Volume.read(tmp_path / "1.nii.gz", reference=MNI).shape == SHAPE
    assert "fourth axis of one volume" in caplog.text
    with pytest.raises(InputError, match="take one of its volumes"):
        Volume.read(tmp_path / "2.nii.gz", reference=MNI)


def test_a_moved_cortex_is_another_study_and_an_edited_atlas_another_report(tmp_path: Path, bert: str) -> None:
    volume = on_bert(bert)
    before = volume.digests
    moved = Volume(volume.mask, RAS, "T1w", bert, np.linalg.inv(RAS))
    assert moved.digests != before
    assert on_bert(bert).digests == before
