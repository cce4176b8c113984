"""Series of volumes as responses: read through a copy by voxel that is made in one pass."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from latentcortex.datasets import _voxel_major
from latentcortex.datasets._voxel_major import check_room, voxel_major
from latentcortex.datasets.folder import Folder
from latentcortex.errors import AlignmentError, IncompleteError, InputError

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(1).random((4, 3, 5)) < 0.5


def write(data: Path, mask: np.ndarray, values: np.ndarray, name: str = "responses.nii.gz", **scaling: float) -> None:
    """Write volumes and their mask in place of the array."""
    (data / "responses.npy").unlink(missing_ok=True)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), data / "mask.nii.gz")
    image = nib.Nifti1Image(values, AFFINE)
    if scaling:
        image.header.set_slope_inter(scaling["slope"], scaling["inter"])
    nib.save(image, data / name)


def folder_of(data: Path, scratch: Path) -> Folder:
    return Folder(str(data), mask="mask.nii.gz", reference="T1w", scratch=str(scratch))


@pytest.mark.parametrize("name", ["responses.nii.gz", "responses.nii"])
@pytest.mark.parametrize("dtype", ["<i2", ">f4", "<f8"])
def test_volumes_are_read_as_nibabel_reads_them(
    folder_study: Path, tmp_path: Path, mask: np.ndarray, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of seven trials, so that the last one is shorter."""
    data = folder_study.parent / "data"
    monkeypatch.setattr(_voxel_major, "BLOCK_BYTES", 7 * 4 * int(mask.sum()))
    values = np.random.default_rng(0).integers(-99, 99, (4, 3, 5, 120)).astype(dtype)
    write(data, mask, values, name)
    expected = nib.load(data / name).get_fdata()[mask].T.astype(np.float32)
    folder = folder_of(data, tmp_path / "scratch")
    np.testing.assert_array_equal(folder.responses("01").data, expected)
    part = folder.responses("01", slice(3, 9))
    np.testing.assert_array_equal(part.data, expected[:, 3:9])
    np.testing.assert_array_equal(part.space.mask, np.isin(folder.space("01").numbers, range(3, 9)))
    assert len(list((tmp_path / "scratch").rglob("trials-*.arrays"))) == 18


def test_values_that_are_stored_scaled_are_those_that_are_meant(
    folder_study: Path, tmp_path: Path, mask: np.ndarray
) -> None:
    data = folder_study.parent / "data"
    write(data, mask, np.random.default_rng(0).standard_normal((4, 3, 5, 120)).astype("<f4"))
    image = nib.load(data / "responses.nii.gz")
    stored = nib.Nifti1Image(np.asarray(image.dataobj), AFFINE)
    stored.header.set_data_dtype(np.int16)  # nibabel scales what it writes
    nib.save(stored, data / "responses.nii.gz")
    expected = nib.load(data / "responses.nii.gz").get_fdata()[mask].T
    assert nib.load(data / "responses.nii.gz").dataobj.slope not in (1, 0)
    np.testing.assert_allclose(folder_of(data, tmp_path / "s").responses("01").data, expected, rtol=1e-6, atol=1e-7)


def test_a_copy_is_made_once_goes_on_where_it_was_interrupted_and_mends_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_voxel_major, "BLOCK_BYTES", 4 * 6 * 10)
    values = np.random.default_rng(0).standard_normal((35, 6)).astype(np.float32)
    walked: list[int] = []

    def trials(stop: int = 35):
        for k, row in enumerate(values):
            if k == stop:
                raise KeyboardInterrupt
            walked.append(k)
            yield row

    how = {"shape": (35, 6), "source": tmp_path / "r.nii", "key": "abc", "scratch": tmp_path / "scratch"}
    with pytest.raises(KeyboardInterrupt):
        voxel_major(trials(24), **how)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "scratch" / "abc").iterdir()}
    assert len(times) == 2
    with caplog.at_level(logging.INFO):
        copy = voxel_major(trials(), **how)
    assert "r.nii is not laid out by voxel: a copy that is takes 0.0 GB" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in times} == times
    np.testing.assert_array_equal(copy.columns(0, 6), values)
    walked.clear()
    np.testing.assert_array_equal(voxel_major(trials(), **how).columns(2, 5, np.array([1, 34])), values[[1, 34], 2:5])
    assert walked == []
    spoiled = copy.store.path("trials-000010-000020")
    whole = spoiled.read_bytes()
    for content in (whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:], whole[:-1], b""):
        spoiled.write_bytes(content)
        np.testing.assert_array_equal(voxel_major(trials(), **how).columns(0, 6), values)
        assert walked == list(range(35))
        walked.clear()
    assert caplog.text.count("trials-000010-000020.arrays is damaged") == 3


def test_what_is_copied_of_a_source_that_turns_out_to_be_damaged_at_its_end_is_never_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a packed one does whose checksum, after its last volume, is another."""
    monkeypatch.setattr(_voxel_major, "BLOCK_BYTES", 4 * 6 * 2)

    def trials():
        yield from np.ones((5, 6), dtype=np.float32)
        raise InputError("damaged")

    for _ in range(2):
        with pytest.raises(InputError, match="damaged"):
            voxel_major(trials(), (5, 6), source=tmp_path / "r", key="k", scratch=tmp_path)
    assert len(list(tmp_path.rglob("trials-*"))) == 2


def test_a_copy_that_another_version_made_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose parts have another format, then one with blocks of another length."""
    values, how = np.arange(20, dtype=np.float32).reshape(5, 4), {"source": tmp_path / "r", "key": "k"}
    with monkeypatch.context() as version:
        version.setattr("latentcortex._store.FORMAT", "latentcortex-part 0")
        voxel_major(iter(values + 1), (5, 4), scratch=tmp_path, **how)
    for n_trials in (5, 3, 2):
        monkeypatch.setattr(_voxel_major, "BLOCK_BYTES", 4 * 4 * n_trials)
        copy = voxel_major(iter(values), (5, 4), scratch=tmp_path, **how)
        np.testing.assert_array_equal(copy.columns(0, 4), values)


def test_a_block_that_is_deleted_while_a_copy_is_in_use_is_one_line(tmp_path: Path) -> None:
    copy = voxel_major(iter(np.ones((3, 2), np.float32)), (3, 2), source=tmp_path / "r", key="k", scratch=tmp_path)
    copy.store.remove(copy.store.keys())
    with pytest.raises(
        IncompleteError, match=r"trials-000000-000003\.arrays was deleted or damaged while it was in use"
    ):
        copy.columns(0, 1)


def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_voxel_major, "BLOCK_BYTES", 2**18)
    row, peaks = np.ones(2**12, dtype=np.float32), []
    for n in (64, 1024):
        tracemalloc.start()
        how = {"source": tmp_path / "r.nii", "key": str(n), "scratch": tmp_path}
        voxel_major((row for _ in range(n)), (n, len(row)), **how)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_a_copy_that_has_no_room_is_refused_with_how_much_it_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"r.nii.gz is not laid out by voxel, and a copy .* needs 1000000000.0 GB in"):
        check_room(10**18, tmp_path / "not" / "there", tmp_path / "r.nii.gz")
    check_room(1, tmp_path / "not" / "there", tmp_path / "r.nii.gz")
    assert not (tmp_path / "not").exists()


def test_a_series_that_does_not_fit_is_one_line_and_no_copy_is_made(
    folder_study: Path, tmp_path: Path, mask: np.ndarray
) -> None:
    data, scratch = folder_study.parent / "data", tmp_path / "scratch"
    values = np.zeros((4, 3, 5, 120), dtype=np.float32)
    array = np.load(data / "responses.npy")
    write(data, mask, values[..., :7])
    with pytest.raises(
        AlignmentError, match=r"responses.nii.gz has 7 volumes, trials.tsv 120 rows; expected one volume"
    ):
        folder_of(data, scratch).space("01")
    write(data, mask[:3], values)
    with pytest.raises(AlignmentError, match=r"on another grid than .*mask.nii.gz: \(4, 3, 5\) and \(3, 3, 5\) voxels"):
        folder_of(data, scratch).space("01")
    write(data, mask, values)
    with pytest.raises(InputError, match=r"responses.nii.gz needs `mask` in"):
        Folder(str(data)).space("01")
    np.save(data / "responses.npy", array)
    with pytest.raises(InputError, match=r"has responses.npy and responses.nii.gz; keep one of them"):
        folder_of(data, scratch).space("01")
    assert not scratch.exists()


def test_a_series_that_is_cut_off_is_refused(folder_study: Path, tmp_path: Path, mask: np.ndarray) -> None:
    data = folder_study.parent / "data"
    noise = np.random.default_rng(0).standard_normal((4, 3, 5, 120)).astype(np.float32)
    write(data, mask, noise)
    path = data / "responses.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"responses.nii.gz is not a NIfTI image, or damaged"):
        folder_of(data, tmp_path / "scratch").space("01")
    with pytest.raises(InputError, match=r"responses.nii.gz is not a NIfTI image, or damaged"):
        folder_of(data, tmp_path / "scratch").space("01")


def test_a_block_holds_each_voxel_in_one_piece(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    voxel_major(iter(values), (4, 3), source=tmp_path / "r", key="k", scratch=tmp_path)
    assert values.T.astype("<f4").tobytes() in (tmp_path / "k" / "trials-000000-000004.arrays").read_bytes()


def series_of(rows: Iterable[np.ndarray]) -> nib.gifti.GiftiImage:
    arrays = [nib.gifti.GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES") for row in rows]
    return nib.gifti.GiftiImage(darrays=arrays)


def write_surfaces(data: Path, values: np.ndarray, n_left: int) -> None:
    """Write one array per trial for each hemisphere, as nibabel does."""
    (data / "responses.npy").unlink(missing_ok=True)
    for side, part in (("L", values[:, :n_left]), ("R", values[:, n_left:])):
        nib.save(series_of(part), data / f"responses_hemi-{side}.func.gii")


def test_a_series_of_both_hemispheres_is_read_left_then_right(folder_study: Path, tmp_path: Path) -> None:
    data = folder_study.parent / "data"
    values = np.random.default_rng(0).standard_normal((120, 20484)).astype(np.float32)
    write_surfaces(data, values, 10242)
    folder = Folder(str(data), template="fsaverage5", scratch=str(tmp_path / "scratch"))
    np.testing.assert_array_equal(folder.responses("01", slice(10000, 10500)).data, values[:, 10000:10500])
    assert folder.space("01").n_voxels == 20484


def test_a_series_of_surfaces_that_does_not_fit_is_one_line(folder_study: Path, tmp_path: Path) -> None:
    data = folder_study.parent / "data"
    values = np.zeros((120, 8), dtype=np.float32)

    def opened() -> int:
        return Folder(str(data), scratch=str(tmp_path / "scratch")).space("01").n_voxels

    write_surfaces(data, values[:9], 3)
    with pytest.raises(AlignmentError, match=r"hemi-L.func.gii has 9 arrays, trials.tsv 120 rows; expected one array"):
        opened()
    write_surfaces(data, values, 3)
    path = data / "responses_hemi-R.func.gii"
    whole = path.read_text()
    path.write_text(whole.replace('NumberOfDataArrays="120"', 'NumberOfDataArrays="121"'))
    with pytest.raises(AlignmentError, match=r"hemi-R.func.gii has 121 arrays"):
        opened()
    nib.save(series_of([np.zeros(5, np.float32)] * 119 + [np.zeros(4, np.float32)]), path)
    with pytest.raises(InputError, match=r"hemi-R.func.gii has arrays of 5 and of 4 vertices"):
        opened()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"hemi-R.func.gii is not a GIFTI file, or damaged"):
        opened()
    path.unlink()
    with pytest.raises(InputError, match=r"hemi-R.func.gii is missing"):
        opened()
    assert not list((tmp_path / "scratch").rglob("trials-*"))
