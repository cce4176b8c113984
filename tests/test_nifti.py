"""Images of volumes: read as nibabel reads them where they are whole, and refused in one line where they are not."""

from __future__ import annotations

import gzip
import itertools
import os
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from _flips import flipped, read_or_one_line, some_bits

from latentcortex import _nifti, plotting
from latentcortex.errors import InputError
from latentcortex.plotting import _planes
from latentcortex.space import Volume

AFFINE = np.array([[-2.0, 0.1, 0, 90], [0.1, 2, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]])
SHAPE = (5, 6, 7)
NUMBERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def image(dtype: Any = "u1", shape: tuple[int, ...] = SHAPE, kind: Any = nib.Nifti1Image) -> Any:
    values = np.random.default_rng(0).integers(0, 2, shape)
    return kind(values.astype(dtype), AFFINE, dtype=dtype)


def spoiled(**fields: Any) -> bytes:
    """Write an uncompressed image, some fields of its header changed."""
    content = image("i2").to_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock) + content[348:]


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("end", [".nii", ".nii.gz"])
def test_every_type_of_plain_numbers_is_read_as_nibabel_reads_it(
    dtype: str, kind: Any, end: str, tmp_path: Path
) -> None:
    path = tmp_path / f"x{end}"
    nib.save(image(dtype, kind=kind), path)
    grid, theirs = _nifti.read_grid(path), nib.load(path)
    np.testing.assert_array_equal(grid.values, np.asanyarray(theirs.dataobj))
    np.testing.assert_array_equal(grid.affine, theirs.affine)
    assert grid.values.dtype == np.dtype(dtype)
    mask = Volume.read(path, reference="T1w").mask
    np.testing.assert_array_equal(mask, np.asanyarray(theirs.dataobj) == 1)
    labels, _ = _nifti.label_image(path)
    np.testing.assert_array_equal(labels, np.asanyarray(theirs.dataobj))
    again = nib.Nifti1Image.from_bytes(gzip.decompress(_nifti.as_nifti(path)))
    np.testing.assert_array_equal(np.asanyarray(again.dataobj), np.asanyarray(theirs.dataobj))


@pytest.mark.parametrize("fields", [{"scl_slope": 0.5, "scl_inter": -3}, {"scl_slope": 0}, {"scl_slope": np.nan}])
@pytest.mark.parametrize("swapped", [False, True])
def test_scaled_and_big_endian_images_are_read_as_nibabel_reads_them(
    fields: dict[str, float], swapped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "x.nii"
    content = spoiled(**fields)
    if swapped:
        header = nib.Nifti1Header(content[:348], check=False).as_byteswapped()
        values = np.frombuffer(content[352:], "<i2").astype(">i2").tobytes()
        content = bytes(header.binaryblock) + content[348:352] + values
    path.write_bytes(content)
    grid, theirs = _nifti.read_grid(path), nib.load(path)
    np.testing.assert_array_equal(grid.values, np.asanyarray(theirs.dataobj))
    np.testing.assert_array_equal(grid.affine, theirs.affine)
    assert grid.values.dtype.isnative


def test_the_name_of_a_file_does_not_say_whether_it_is_packed(tmp_path: Path) -> None:
    nib.save(image(), tmp_path / "x.nii")
    (tmp_path / "plain.nii.gz").write_bytes((tmp_path / "x.nii").read_bytes())
    (tmp_path / "packed.nii").write_bytes(gzip.compress((tmp_path / "x.nii").read_bytes()))
    for name in ("plain.nii.gz", "packed.nii"):
        np.testing.assert_array_equal(_nifti.read_grid(tmp_path / name).values, np.asanyarray(image().dataobj))


# --- left and right ---------------------------------------------------------------------------------------------------


def without_codes() -> bytes:
    return spoiled(sform_code=0, qform_code=0)


def test_nibabel_makes_up_left_and_right_where_an_image_does_not_say_and_we_refuse(tmp_path: Path) -> None:
    (tmp_path / "x.nii").write_bytes(without_codes())
    assert nib.aff2axcodes(nib.load(tmp_path / "x.nii").affine) == ("L", "A", "S")  # whatever it was made from
    for read in (
        lambda path: Volume.read(path, reference="T1w"),
        _nifti.label_image,
        _nifti.as_nifti,
        lambda path: _planes.behind(Volume(np.ones(SHAPE, bool), AFFINE, "T1w"), path),
        lambda path: _planes.behind(Volume(np.ones(SHAPE, bool), AFFINE, "T1w"), nib.load(path)),
        lambda path: plotting.Panel.of_image("r", nib.load(path), reference="T1w"),
    ):
        with pytest.raises(InputError, match="does not say where left and right are") as caught:
            read(tmp_path / "x.nii")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", ["sform", "qform"])
def test_one_code_is_enough(code: str, tmp_path: Path) -> None:
    one = image()
    straight = np.diag([2.0, 2, 2.5, 1])
    one.set_sform(straight, int(code == "sform"))
    one.set_qform(straight, int(code == "qform"))
    nib.save(one, tmp_path / "x.nii.gz")
    np.testing.assert_allclose(_nifti.read_grid(tmp_path / "x.nii.gz").affine, straight)


def test_two_codes_that_contradict_each_other_are_refused_and_a_tilt_is_not(tmp_path: Path) -> None:
    one = image()
    one.set_qform(np.diag([-2.0, 2, 2.5, 1]), 1)
    one.set_sform(np.diag([2.0, 2, 2.5, 1]), 1)
    nib.save(one, tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match="towards RAS by its sform and LAS by its qform"):
        _nifti.read_grid(tmp_path / "x.nii.gz")
    one.set_qform(AFFINE, 1)
    one.set_sform(AFFINE + np.pad([[0.05]], ((0, 3), (1, 2))), 1)
    nib.save(one, tmp_path / "x.nii.gz")
    _nifti.read_grid(tmp_path / "x.nii.gz")


# --- what is none -----------------------------------------------------------------------------------------------------


def rgb() -> bytes:
    values = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return nib.Nifti1Image(values, AFFINE).to_bytes()


def packed(content: bytes, *, moved: bool = False, tail: bytes = b"") -> bytes:
    """Pack as gzip; `moved` exchanges two voxels after the checksum was computed."""
    whole = gzip.compress(content)
    if moved:
        other = bytearray(content)
        other[-1], other[-2] = 1 - other[-1], other[-2]
        whole = gzip.compress(bytes(other))[:-8] + whole[-8:]
    return whole + tail


FAULTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty; expected a NIfTI image: was it fetched"),
    "pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid x\n", "git lfs pull"),
    "text": (lambda: b"left\tright\n", "is not a NIfTI image, or damaged: it starts with b'left'"),
    "half a header": (lambda: image().to_bytes()[:300], "ends within its header"),
    "analyze": (lambda: nib.AnalyzeHeader(endianness="<").binaryblock + bytes(4), "in one file"),
    "pair": (lambda: spoiled(magic=b"ni1"), "in one file"),
    "RGB": (rgb, "of the type RGB; expected plain numbers"),
    "complex": (lambda: nib.Nifti1Image(np.zeros(SHAPE, np.complex64), AFFINE).to_bytes(), "of the type complex"),
    "no type": (lambda: spoiled(datatype=77), "of the type number 77"),
    "negative axis": (lambda: spoiled(dim=[3, 5, -6, 7, 1, 1, 1, 1]), "its axes are [3, 5, -6, 7, 1, 1, 1, 1]"),
    "no axis": (lambda: spoiled(dim=[0, 5, 6, 7, 1, 1, 1, 1]), "its axes are"),
    "offset": (lambda: spoiled(vox_offset=0), "start at byte 0"),
    "offset nan": (lambda: spoiled(vox_offset=np.nan), "start at byte nan"),
    "affine": (lambda: spoiled(srow_x=0), "its affine must be a finite matrix that can be inverted"),
    "intercept": (lambda: spoiled(scl_slope=1, scl_inter=np.nan), "scl_inter nan"),
    "truncated": (lambda: image().to_bytes()[:-3], "bytes, and the file has"),
    "more follows": (lambda: image().to_bytes() + b"\1", "follow, and more follow"),
    "truncated gzip": (lambda: packed(image().to_bytes())[:-12], "end-of-stream marker"),
    "no trailer": (lambda: packed(image().to_bytes())[:-8], "end-of-stream marker"),
    "a voxel moved": (lambda: packed(image().to_bytes(), moved=True), "CRC check failed"),
    "a second part": (lambda: packed(image().to_bytes()) + packed(bytes(9)), "more follow"),
    "rubbish behind": (lambda: packed(image().to_bytes(), tail=b"rubbish"), "Not a gzipped file"),
    "more than any head": (lambda: spoiled(dim=[3, 950, 950, 950, 1, 1, 1, 1]), "of at most 134,217,728 voxels"),
    "more than its file": (lambda: packed(spoiled(dim=[3, 500, 500, 500, 1, 1, 1, 1])), "bytes, and the file has"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_image_or_damaged_is_one_line(fault: str, tmp_path: Path) -> None:
    make, says = FAULTS[fault]
    path = tmp_path / "x.nii.gz"
    path.write_bytes(make())
    with pytest.raises(InputError) as caught:
        Volume.read(path, reference="T1w")
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_voxel_that_was_moved_in_a_large_mask_is_noticed(tmp_path: Path) -> None:
    mask = np.zeros((128, 128, 128), np.uint8)
    mask[40:80, 40:80, 40:80] = 1
    content = nib.Nifti1Image(mask, AFFINE).to_bytes()
    for name, moved in (("whole", False), ("moved", True)):
        (tmp_path / name).write_bytes(packed(content, moved=moved))
    assert Volume.read(tmp_path / "whole", reference="T1w").n_voxels == 64000
    with pytest.raises(InputError, match="CRC check failed"):
        Volume.read(tmp_path / "moved", reference="T1w")


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ([0, 1, 2.0], 2),
        ([0, 1, 1.5], None),
        ([0, 1, np.nan], None),
        ([0, 1, np.inf], None),
        ([0, 1, 1e30], None),
        (np.array([0, 1, 2**63], np.uint64), None),
        (np.array([0, -(2**63)], np.int64), None),
        (np.array([0, 2**53], np.uint64), None),
        (np.array([-1, 0, 2**31 - 1], np.int64), 2**31 - 1),
    ],
)
def test_labels_are_whole_numbers_of_any_type_or_none(values: Any, label: int | None) -> None:
    labels = _nifti.whole_numbers(np.asarray(values))
    assert (labels is None) == (label is None)
    assert labels is None or labels.max() == label


def test_a_flipped_bit_of_a_packed_image_gives_the_same_numbers_or_one_line(tmp_path: Path) -> None:
    path, content = tmp_path / "x.nii.gz", packed(image("f4").to_bytes())
    n_read = 0
    for damaged in flipped(content, some_bits(content, 300)):
        path.write_bytes(damaged)
        grid = read_or_one_line(lambda: _nifti.read_grid(path))
        if grid is not None:
            n_read += 1
            np.testing.assert_array_equal(grid.values, np.asanyarray(image("f4").dataobj))
            np.testing.assert_array_equal(grid.affine, AFFINE.astype(np.float32))
    assert 0 < n_read < 60


def test_a_flipped_bit_of_a_header_without_a_checksum_gives_as_many_numbers_or_one_line(tmp_path: Path) -> None:
    path, content = tmp_path / "x.nii", image("f4").to_bytes()
    for damaged in flipped(content, range(0, 8 * 348, 7)):
        path.write_bytes(damaged)
        grid = read_or_one_line(lambda: _nifti.read_grid(path))
        assert grid is None or grid.values.shape == SHAPE


BOMBS = """
import resource, sys
from pathlib import Path
from latentcortex.errors import InputError
from latentcortex.space import Volume
limit = resource.RLIMIT_AS
resource.setrlimit(limit, (2**31, resource.getrlimit(limit)[1]))
for path in sys.argv[1:]:
    try:
        Volume.read(Path(path), reference="T1w")
    except InputError as error:
        print(error)
"""


def zeros(n_bytes: int, start: bytes) -> bytes:
    """Pack so many zeros as gzip, by repeating a megabyte of them, after some bytes."""
    packer = zlib.compressobj(9, wbits=31)
    million = bytes(2**20)
    parts = itertools.chain([packer.compress(start)], (packer.compress(million) for _ in range(n_bytes // 2**20)))
    return b"".join(parts) + packer.flush()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="needs a limit of memory")
def test_bombs_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    bombs = [
        ((950, 950, 950), 0, "of at most 134,217,728 voxels"),  # 3.4 GB
        ((512, 512, 512), 0, "bytes, and the file has"),
        ((20, 20, 20), 2**28, "follow, and more follow"),
        ((1000, 1000, 500), 0, "of at most 134,217,728 voxels"),
    ]
    paths = []
    for i, (shape, n_zeros, _) in enumerate(bombs):
        header = nib.Nifti1Header()
        header.set_data_shape(shape)
        header.set_data_dtype(np.float32)
        header.set_sform(AFFINE, 1)
        header["vox_offset"], header["magic"] = 352, b"n+1"
        paths.append(tmp_path / f"{i}.nii.gz")
        paths[-1].write_bytes(zeros(n_zeros, header.binaryblock + bytes(4)))
    command = [sys.executable, "-c", BOMBS, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"OPENBLAS_NUM_THREADS": "1"})
    for line, path, (*_, says) in zip(done.stdout.splitlines(), paths, bombs, strict=True):
        assert line.startswith(str(path))
        assert says in line


def test_an_image_in_memory_without_plain_numbers_is_one_line() -> None:
    coloured = nib.Nifti1Image.from_bytes(rgb())
    volume = Volume(np.ones(SHAPE, bool), AFFINE, "T1w")
    panel = plotting.Panel("r", np.ones(volume.n_voxels, np.float32), volume)
    for draw in (
        lambda: plotting.draw(plotting.Scores([panel]), plotting.Slices(coloured)),
        lambda: plotting.Panel.of_image("r", coloured, reference="T1w"),
    ):
        with pytest.raises(InputError, match="expected an image of plain numbers"):
            draw()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mask.nii.gz")
    with pytest.raises(InputError, match="is missing; expected a NIfTI image"):
        Volume.read(tmp_path / "mask.nii.gz", reference="T1w")


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs a file that Linux refuses to read")
def test_an_image_that_the_operating_system_refuses_to_read_is_not_called_damaged() -> None:
    with pytest.raises(OSError, match="Input/output error") as told:
        _nifti.read_grid(Path("/proc/self/mem"))
    assert told.value.filename == "/proc/self/mem"
