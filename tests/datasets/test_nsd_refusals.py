"""What is not as the Natural Scenes Dataset was released: refused in one line that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from layouts import nsd as layout
from layouts.nsd import replaced
from scipy.io import loadmat, savemat

from latentcortex.datasets.nsd import NSD
from latentcortex.errors import InputError, LatentcortexError


def empty(of: layout.NSD) -> None:
    path = of.betas("01") / "betas_session02.hdf5"
    path.unlink()
    path.touch()


def cut_off(of: layout.NSD) -> None:
    path = replaced(of.betas("01") / "betas_session02.hdf5")
    path.write_bytes(path.read_bytes()[:30_000])


def other_grid(of: layout.NSD) -> None:
    path = of.betas("01") / "betas_session02.hdf5"
    path.unlink()
    layout.write_hdf5(path, of.stored("01", 2)[:-1])


def too_few_trials(of: layout.NSD) -> None:
    path = of.betas("01") / "betas_session02.hdf5"
    path.unlink()
    layout.write_hdf5(path, of.stored("01", 2)[..., :720])


def behaviour_of_another(of: layout.NSD) -> None:
    path = replaced(of.root / "nsddata/ppdata/subj01/behav/responses.tsv")
    lines = path.read_text().splitlines()
    cells = lines[800].split("\t")
    cells[4] = str(int(cells[4]) - 1)
    path.write_text("\n".join([*lines[:800], "\t".join(cells), *lines[801:]]))


def trials_from_zero(of: layout.NSD) -> None:
    path = replaced(of.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv")
    table = pd.read_csv(path)
    columns = [f"subject1_rep{k}" for k in range(3)]
    table[columns] = (table[columns] - 1).clip(lower=0)
    table.to_csv(path, index=False)


def ids_from_zero(of: layout.NSD) -> None:
    path = replaced(of.root / "nsddata/experiments/nsd/nsd_expdesign.mat")
    design = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    savemat(path, {**design, "subjectim": design["subjectim"] - 1})


def no_design(of: layout.NSD) -> None:
    path = of.root / "nsddata/experiments/nsd/nsd_expdesign.mat"
    path.unlink()
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512))


def no_images(of: layout.NSD) -> None:
    (of.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5").unlink()


def no_names(of: layout.NSD) -> None:
    (of.root / "nsddata/freesurfer/subj01/label/streams.mgz.ctab").unlink()


def scaled(of: layout.NSD) -> None:
    (of.betas("01") / "betas_session02.hdf5").unlink()
    image = nib.Nifti1Image(of.percent("01", 2), np.eye(4))
    nib.save(image, of.betas("01") / "betas_session02.nii.gz")


def everything(dataset: NSD) -> None:
    """Read all that a study reads."""
    dataset.rows("01")
    dataset.stimuli()
    dataset.responses("01")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (empty, "betas_session02.hdf5 is empty; expected the betas of a session"),
        (cut_off, "betas_session02.hdf5 cannot be read: .* is it damaged"),
        (other_grid, r"betas_session02.hdf5: betas are \(750, 3, 5, 3\); expected \(750, 3, 5, 4\)"),
        (too_few_trials, r"betas are \(720, 3, 5, 4\); expected \(750, 3, 5, 4\)"),
        (behaviour_of_another, "responses.tsv row 801: 73KID is .* for trial 50 of session 2"),
        (trials_from_zero, "nsd_stim_info_merged.csv says that subj01 saw nsdId .* download both again"),
        (ids_from_zero, "subjectim runs from 0 to 72999; expected ids from 1|not those of sharedix"),
        (no_design, "nsd_expdesign.mat is not a MATLAB 5 file, or damaged"),
        (no_images, "nsd_stimuli.hdf5 is missing; expected the images of NSD"),
        (no_names, "streams.mgz.ctab is missing: it names the regions of streams"),
        (scaled, "betas_session02.nii.gz holds float32; expected int16, percent x 300"),
    ],
)
def test_what_is_not_as_released_is_refused_in_one_line(
    nsd_copy: layout.NSD, make_nsd: Callable[..., NSD], harm: Callable[[layout.NSD], None], message: str
) -> None:
    harm(nsd_copy)
    with pytest.raises(LatentcortexError, match=message) as refused:
        everything(make_nsd(nsd_copy, rois=["streams/ventral"]))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rois": ["stream"]}, "stream.*Did you mean .streams"),
        ({"rois": ["streams/ventrl"]}, "ventrl.*Did you mean .ventral"),
        ({"betas": "b1"}, "betas_assumehrf, which is not there, holds no betas_session01.hdf5"),
        ({"participants": ["02"]}, "subj02/func1pt8mm/brainmask.nii.gz is missing"),
    ],
)
def test_what_was_not_downloaded_is_named(
    nsd_release: layout.NSD, make_nsd: Callable[..., NSD], arguments: dict[str, object], message: str
) -> None:
    dataset = make_nsd(nsd_release, **arguments)
    with pytest.raises(InputError, match=message):
        dataset.responses(dataset.participants[0])


def test_another_folder_is_not_taken_for_the_release(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder nsddata; expected the folder that holds nsddata"):
        NSD(str(tmp_path))
