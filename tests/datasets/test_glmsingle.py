from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from layouts import glmsingle as layout

from latentcortex import cli
from latentcortex.datasets import make
from latentcortex.errors import AlignmentError, InputError

COLUMN = int(np.ravel_multi_index(layout.PLANTED, layout.GRID))


def dataset(root: Path, **arguments):
    return make("glmsingle", root=str(root), scratch=str(root / "scratch"), **arguments)


def refused(root: Path, *said: str, kind: type = InputError, **arguments) -> None:
    with pytest.raises(kind) as caught:
        dataset(root, **arguments).responses("01")
    message = str(caught.value)
    assert [part for part in said if part not in message] == [], message
    assert "\n" not in message


@pytest.mark.parametrize("form", layout.FORMS)
def test_the_planted_voxel_follows_the_grey_of_the_images_in_every_form(form: str, tmp_path: Path) -> None:
    table = layout.write(tmp_path, form)
    made = dataset(tmp_path, convert=form == "pickled")
    responses, stimuli = made.responses("01"), made.stimuli()
    shown = [stimuli.load(name).mean() for name in responses.rows["stimulus"]]
    np.testing.assert_array_equal(responses.data[:, COLUMN], shown)
    np.testing.assert_array_equal(responses.data, layout.betas(table).reshape(60, -1).T)
    np.testing.assert_array_equal(made.responses("01", slice(7, 43)).data, responses.data[:, 7:43])
    np.testing.assert_array_equal(made.tables("01")["glmsingle"]["HRFindex"], layout.hrfs().ravel())
    np.testing.assert_allclose(made.tables("01")["glmsingle"]["R2"], np.linspace(0, 100, 60))
    assert set(made.rows("01")["split"]) == {"train", "test"}  # from stimuli.tsv, as the trials have none


def masked(root: Path, *, order: str = "") -> np.ndarray:
    """Write a mask with holes, and with `order` betas of its voxels alone."""
    mask = np.random.default_rng(3).random(layout.GRID) < 0.6
    mask[layout.PLANTED] = True
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)), root / "mask.nii.gz")
    if order:
        values = layout.betas(layout.trials())
        flat = values[mask] if order == "C" else values.swapaxes(0, 2)[mask.T]
        folder = root / "sub-01"
        for path in folder.glob("TYPE*"):
            path.unlink()
        with h5py.File(folder / f"{layout.STEM}.hdf5", "w") as file:
            file["betasmd"] = flat[:, None, None]
    return mask


@pytest.mark.parametrize("order", ["", "C", "F"])
def test_voxels_of_a_mask_are_where_the_mask_is(order: str, tmp_path: Path) -> None:
    table = layout.write(tmp_path)
    mask = masked(tmp_path, order=order)
    made = dataset(tmp_path, mask="mask.nii.gz", reference="T1w", **({"order": order} if order else {}))
    np.testing.assert_array_equal(made.responses("01").data, layout.betas(table)[mask].T)
    assert made.space("01").shape == layout.GRID


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    layout.write(tmp_path)
    nib.save(nib.Nifti1Image(np.ones(layout.GRID[::-1], dtype=np.uint8), np.eye(4)), tmp_path / "mask.nii.gz")
    said = "(3, 4, 5)", "(5, 4, 3)", "opposite order"
    refused(tmp_path, *said, kind=AlignmentError, mask="mask.nii.gz", reference="T1w")


def test_events_give_the_trials_in_the_order_of_time(tmp_path: Path) -> None:
    """Sessions 2 and 10 are in the order of numbers, events in that of onsets, and blanks are no trials."""
    table = layout.write(tmp_path / "data")
    (tmp_path / "data" / "sub-01" / "trials.tsv").unlink()
    layout.write_events(tmp_path / "bids", table)
    made = dataset(tmp_path / "data", events="../bids/sub-{participant}/ses-*/func/*_events.tsv")
    rows = made.rows("01")
    assert list(rows["stimulus"]) == list(table["stimulus_id"])
    assert list(rows["session"]) == list(table["session"])
    assert set(rows["split"]) == {"train", "test"}


def test_a_design_that_is_in_another_order_is_refused(tmp_path: Path, caplog) -> None:
    table = layout.write(tmp_path)
    layout.write_design(tmp_path / "sub-01", table)
    with caplog.at_level("INFO"):
        dataset(tmp_path).rows("01")
    assert "is not checked" not in caplog.text
    layout.write_design(tmp_path / "sub-01", table.iloc[np.roll(np.arange(len(table)), 1)])
    refused(tmp_path, "does not go with", "DESIGNINFO.mat", "which an earlier trial is", kind=AlignmentError)


def test_hrfs_that_python_counts_from_1_are_noticed(tmp_path: Path, caplog) -> None:
    layout.write(tmp_path)
    with h5py.File(tmp_path / "sub-01" / f"{layout.STEM}.hdf5", "r+") as file:
        file["HRFindex"][...] = 1 + layout.hrfs()
    assert layout.hrfs().max() == 19
    numbers = dataset(tmp_path).tables("01")["glmsingle"]["HRFindex"]
    np.testing.assert_array_equal(numbers, layout.hrfs().ravel())
    assert "reaches 20: it was taken to count from 1" in caplog.text


def test_that_tuning_saw_the_test_trials_is_said(tmp_path: Path, caplog) -> None:
    layout.write(tmp_path)
    made = dataset(tmp_path)
    made.rows("01")
    assert caplog.text.count("repeats of test stimuli included") == 1
    assert "repeats of test stimuli included" in made.methods("01")


def edit(name: str, change: Callable[[list[str]], object]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        path = root / name
        lines = path.read_text().splitlines()
        change(lines)
        path.write_text("\n".join(lines) + "\n")

    return spoil


def swap(i: int, j: int) -> Callable[[list[str]], None]:
    def change(lines: list[str]) -> None:
        lines[i], lines[j] = lines[j], lines[i]

    return change


TRIALS = "sub-01/trials.tsv"
OUTPUT = f"sub-01/{layout.STEM}.hdf5"


def replaced(content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / OUTPUT).write_bytes(content)


def rewritten(write: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / OUTPUT).unlink()
        with h5py.File(root / OUTPUT, "w") as file:
            write(file)

    return spoil


def cut(root: Path) -> None:
    content = (root / OUTPUT).read_bytes()
    (root / OUTPUT).write_bytes(content[: len(content) // 2])


FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no outputs": (lambda r: (r / OUTPUT).unlink(), ["has no TYPED_FITHRF_GLMDENOISE_RR.hdf5 or .mat", "none"]),
    "another type": (
        lambda r: (r / OUTPUT).rename(r / "sub-01" / "TYPEC_FITHRF_GLMDENOISE.hdf5"),
        ["it has TYPEC_FITHRF_GLMDENOISE.hdf5", "`betas` in [dataset]"],
    ),
    "both languages": (
        lambda r: (r / OUTPUT).with_suffix(".mat").write_bytes(b""),
        [".hdf5, TYPED_FITHRF_GLMDENOISE_RR.mat; keep one"],
    ),
    "empty": (replaced(b""), [".hdf5 is empty"]),
    "pointer": (replaced(b"version https://git-lfs.github.com/spec/v1\n"), ["git lfs pull"]),
    "text": (replaced(b"hello"), ["is not HDF5", "hello"]),
    "old MATLAB": (replaced(b"MATLAB 5.0 MAT-file, Platform".ljust(128)), ["older than version 7.3", "-v7.3"]),
    "truncated": (cut, ["cannot be read", "damaged"]),
    "no betas": (rewritten(lambda f: f.create_dataset("other", data=[1.0])), ["neither betasmd nor modelmd", "other"]),
    "text array": (rewritten(lambda f: f.create_dataset("betasmd", data=[b"a"])), ["betasmd", "array of numbers"]),
    "three axes": (
        rewritten(lambda f: f.create_dataset("betasmd", data=np.ones((3, 4, 5)))),
        ["(3, 4, 5)", "(voxels, 1, 1, trials)"],
    ),
    "link into another file": (
        rewritten(lambda f: f.__setitem__("betasmd", h5py.ExternalLink("/etc/hostname", "/x"))),
        ["a link into another file, which is not followed"],
    ),
    "values in another file": (
        rewritten(lambda f: f.create_dataset("betasmd", (2, 1, 1, 32), "u1", external=[("/etc/hostname", 0, 64)])),
        ["lie in another file, which is not read"],
    ),
    "trial lost": (edit(TRIALS, lambda lines: lines.pop()), ["has 32 trials", "trials.tsv 31 rows"]),
    "trials not by onset": (edit(TRIALS, swap(3, 4)), ["row 5 has onset 8 after 12", "order of time"]),
    "run torn apart": (
        edit(TRIALS, lambda lines: lines.append(lines.pop(1))),
        ["row 33 goes back to session 1, run 1", "sort the table"],
    ),
    "onset": (edit(TRIALS, lambda lines: lines.__setitem__(2, "s1\t1\t1\tn/a")), ["row 3 has the onset 'n/a'"]),
    "unknown stimulus": (
        edit(TRIALS, lambda lines: lines.__setitem__(2, "s99\t1\t1\t4")),
        ["names 1 stimuli", "s99, the first in row 3"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_output_or_table_is_one_line(fault: str, tmp_path: Path) -> None:
    layout.write(tmp_path)
    spoil, said = FAULTS[fault]
    spoil(tmp_path)
    refused(tmp_path, *said)


class Runs:
    """What a pickle may be: a call of any function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickled_output_is_refused_with_the_two_ways_out(tmp_path: Path) -> None:
    layout.write(tmp_path, "pickled")
    refused(tmp_path, "is pickled, and a pickle may run any code", "wanthdf5=1", "convert = true")


@pytest.mark.parametrize(
    "make_hostile",
    [
        lambda mark: {"betasmd": Runs(Path.touch, mark)},
        lambda mark: {"betasmd": Runs(exec, f"open({str(mark)!r}, 'w')")},
        lambda mark: {"betasmd": np.ones(3), "more": [[Runs(open, str(mark), "w")]]},
        lambda mark: {"betasmd": Runs(np.fromfile, str(mark))},
        lambda mark: Runs(np.load, str(mark)),
    ],
)
def test_a_pickle_that_calls_anything_is_refused_and_runs_nothing(make_hostile, tmp_path: Path) -> None:
    layout.write(tmp_path, "pickled")
    mark = tmp_path / "run"
    np.save(tmp_path / "sub-01" / f"{layout.STEM}.npy", np.array(make_hostile(mark), dtype=object))
    assert not mark.exists()
    refused(tmp_path, "was not copied into HDF5: it names", "only arrays, types and scalars", convert=True)
    assert not mark.exists()
    assert list((tmp_path / "scratch").rglob("*.hdf5")) == []


def test_the_hostile_pickles_of_these_tests_are_hostile(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array({"betasmd": Runs(Path.touch, tmp_path / "run")}, dtype=object))
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert (tmp_path / "run").exists()


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    layout.write(tmp_path, "pickled")
    path = tmp_path / "sub-01" / f"{layout.STEM}.npy"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(tmp_path, "was not copied into HDF5", convert=True)


def test_a_pickle_that_lies_about_an_array_is_refused(tmp_path: Path) -> None:
    layout.write(tmp_path, "pickled")
    path = tmp_path / "sub-01" / f"{layout.STEM}.npy"
    content = path.read_bytes()
    shape = b"K\x03K\x04K\x05K\x20"
    assert content.count(shape) == 1
    path.write_bytes(content.replace(shape, b"K\x7fK\x7fK\x7fK\x7f"))
    refused(tmp_path, "was not copied into HDF5", convert=True)


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    layout.write(tmp_path)
    for arguments, said in (
        ({"participants": ["01", "02"], "outputs": "sub-01"}, "write {participant}"),
        ({"columns": {"stimulsu": "x"}}, "stimulus"),
        ({"mask": "mask.nii.gz"}, "needs `reference`"),
        ({"betas": "A"}, "betas"),
        ({"events": "none/*.tsv"}, "matches no file"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            dataset(tmp_path, **arguments).rows("01")


def test_unchanged_data_have_one_fingerprint(tmp_path: Path) -> None:
    layout.write(tmp_path)
    before = dataset(tmp_path).fingerprint("01")
    assert dataset(tmp_path).fingerprint("01") == before
    with h5py.File(tmp_path / OUTPUT, "r+") as file:
        file["betasmd"][0, 0, 0, 0] += 1
    assert dataset(tmp_path).fingerprint("01") != before


def test_a_study_of_a_pickled_output_runs_to_a_report_that_names_the_tuning(folder_study: Path, tmp_path: Path) -> None:
    data = folder_study.parent / "data"
    (data / "sub-01").mkdir()
    (data / "trials.tsv").rename(data / "sub-01" / "trials.tsv")
    values = np.load(data / "responses.npy").T[:, None, None]
    np.save(data / "sub-01" / f"{layout.STEM}.npy", {"betasmd": values, "HRFindex": np.full((30, 1, 1), 7)})
    text = folder_study.read_text().replace('name = "folder"', 'name = "glmsingle"\nscratch = "scratch"')
    folder_study.write_text(text)
    assert cli.main(["check", str(folder_study)]) == 2
    folder_study.write_text(text.replace("[extractor]", "convert = true\n\n[extractor]"))
    assert cli.main(["run", str(folder_study), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "Prince et al., 2022" in page
    assert page.count("repeats of test stimuli included") >= 2  # as an alteration, and in the methods
    table = (tmp_path / "out" / "sub-01" / "sub-01_glmsingle.tsv").read_text().splitlines()
    assert table[:2] == ["voxel\tHRFindex", "0\t7"]
    assert len(table) == 31
