from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcortex.datasets import make
from latentcortex.errors import AlignmentError, InputError

PLANTED = {"lh": 4, "rh": 2}
GREYS = [20, 70, 40, 110, 90]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write what the challenge gives of one participant, on fsaverage5; a column of each side is the images' grey."""
    split = tmp_path / "subj01" / "training_split"
    (split / "training_images").mkdir(parents=True)
    (split / "training_fmri").mkdir()
    (tmp_path / "subj01" / "roi_masks").mkdir()
    for row, level in enumerate(GREYS, start=1):
        # Numbers of NSD do not rise with the rows.
        path = split / "training_images" / f"train-{row:04d}_nsd-{90000 - 7 * row:05d}.png"
        Image.new("RGB", (8, 8), (level,) * 3).save(path)
    for number, side in enumerate(("lh", "rh")):
        rng = np.random.default_rng(number)
        mask = np.zeros(10242)
        mask[np.sort(rng.choice(10242, 6 + number, replace=False))] = 1
        values = rng.standard_normal((5, 6 + number)).astype(np.float32)
        values[:, PLANTED[side]] = GREYS
        np.save(split / "training_fmri" / f"{side}_training_fmri.npy", values)
        np.save(tmp_path / "subj01" / "roi_masks" / f"{side}.all-vertices_fsaverage_space.npy", mask)
    return tmp_path


def test_rows_are_of_the_images_and_columns_of_the_vertices_of_the_masks(root: Path) -> None:
    made = make("algonauts2023", root=str(root), template="fsaverage5")
    responses, stimuli = made.responses("01"), made.stimuli()
    shown = [stimuli.load(name).mean() for name in responses.rows["stimulus"]]
    for column in (PLANTED["lh"], 6 + PLANTED["rh"]):
        np.testing.assert_array_equal(responses.data[:, column], shown)
    masks = [np.load(root / "subj01" / "roi_masks" / f"{s}.all-vertices_fsaverage_space.npy") for s in ("lh", "rh")]
    np.testing.assert_array_equal(made.space("01").vertices, np.flatnonzero(np.concatenate(masks)))
    for part in (slice(0, 3), slice(4, 9), slice(7, 13)):
        np.testing.assert_array_equal(made.responses("01", part).data, responses.data[:, part])


def test_that_there_are_no_trials_and_no_ceiling_is_said(root: Path, caplog) -> None:
    made = make("algonauts2023", root=str(root), template="")
    assert made.space("01").n_voxels == 13
    assert "a noise ceiling cannot be computed" in caplog.text
    assert "trials and noise ceilings are not available" in made.methods("01")
    assert made.fingerprint("01") == make("algonauts2023", root=str(root), template="").fingerprint("01")


def test_what_does_not_fit_is_one_line(root: Path) -> None:
    with pytest.raises(AlignmentError, match="are of 20484 vertices, fsaverage4 has 5124"):
        make("algonauts2023", root=str(root), template="fsaverage4").space("01")
    (root / "subj01" / "roi_masks" / "lh.all-vertices_fsaverage_space.npy").unlink()
    with pytest.raises(InputError, match="is missing; expected 0 and 1 for each vertex"):
        make("algonauts2023", root=str(root), template="fsaverage5").space("01")
    next((root / "subj01" / "training_split" / "training_images").glob("train-0002*")).unlink()
    with pytest.raises(AlignmentError, match=r"has 4 images .*the responses 5 rows"):
        make("algonauts2023", root=str(root), template="").rows("01")
