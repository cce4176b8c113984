"""Arrays as numpy keeps them: read as numpy reads them, or refused in one line."""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from _flips import flipped, read_or_one_line, some_bits

from latentcortex import _npy
from latentcortex.errors import InputError

PLAIN = ["?", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", ">f4", ">i8"]


def packed(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def with_header(text, content=b"", version=(1, 0)):
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2 if version == (1, 0) else 4, "little") + text + content


def read(content):
    return _npy.read_npy(io.BytesIO(content), size=len(content), source="x.npy")


@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4), (2, 3, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_arrays_are_read_as_numpy_reads_them(dtype, shape, order):
    values = np.asarray(np.random.default_rng(0).integers(0, 2, shape), dtype=dtype, order=order)
    content = packed(values)
    ours, theirs = read(content), np.load(io.BytesIO(content))
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",  # as C++'s cnpy writes it, not padded
        b"{'shape': (3,), 'fortran_order': False, 'descr': '<f4'}\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3L,), }   \n",  # Python 2
        b'{"descr": "<f4", "fortran_order": False, "shape": (3,)}',
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_headers_of_other_writers_are_read(text, version):
    values = np.arange(3, dtype="<f4")
    np.testing.assert_array_equal(read(with_header(text, values.tobytes(), version)), values)


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }",
        b"{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }",
        b"{'descr': '<f4', 'descr': '<f4', 'shape': (1,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': (1,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1" + b"," * 60 + b"), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1," * 65 + b"), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 999999999999999999, 999999999999999999), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } # " + b"(" * 1000,
        b"(" * 2000,
        b"",
    ],
)
def test_a_header_that_is_none_of_a_plain_array_is_one_line(text):
    with pytest.raises(InputError, match=r"x\.npy") as caught:
        read(with_header(text, b"\0\0\0\0" if b"999" not in text else b""))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("content", [b"", b"\x93NUMP", b"version https://git-lfs.github.com/spec/v1", b"\x93NUMPY\1\0"])
def test_what_is_no_array_is_one_line(content):
    with pytest.raises(InputError, match=r"^x\.npy [^\n]*$"):
        read(content)


def test_an_array_that_is_shorter_or_longer_than_it_says_is_refused():
    content = packed(np.arange(12.0))
    for other in (content[:-1], content + b"\0", content[:200]):
        with pytest.raises(InputError, match="96 bytes, and"):
            read(other)
    for handle in (io.BytesIO(content[:-8]), io.BytesIO(content + b"\0")):  # of which the size was told wrong
        with pytest.raises(InputError, match=r"ends after 88 of 96|longer than its header"):
            _npy.read_npy(handle, size=len(content), source="x.npy")


def test_every_flipped_bit_of_a_header_gives_the_same_numbers_or_one_line():
    values = np.arange(1, 61, dtype="<f4").reshape(12, 5)
    content = packed(values)
    n_header = 8 * (len(content) - values.nbytes)
    results = [read_or_one_line(lambda one=one: read(one)) for one in flipped(content, range(n_header))]
    left = [one for one in results if one is not None]
    # There is no checksum: < (little-endian) and > differ in one bit, and so do quotes and blanks that mean the same.
    assert len(left) < 8
    assert all((one.shape, one.dtype.itemsize) == (values.shape, 4) for one in left)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_of_an_archive_gives_the_same_numbers_or_one_line(tmp_path, save):
    path, values = tmp_path / "x.npz", np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    save(path, left=values, right=values + 1)
    content = path.read_bytes()
    n_refused = 0
    for damaged in flipped(content, some_bits(content, 400)):
        path.write_bytes(damaged)
        arrays = read_or_one_line(lambda: _npy.read_npz(path, "left", "right", max_bytes=10_000))
        n_refused += arrays is None
        for got, expected in zip(arrays or (), (values, values + 1), strict=False):
            np.testing.assert_array_equal(got, expected)
    assert n_refused > 250


def test_an_archive_that_claims_more_than_is_allowed_or_possible_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, left=np.zeros(1_000_000))
    with pytest.raises(InputError, match=r"'left' in .*x\.npz claims 8000128 bytes; expected at most 1000"):
        _npy.read_npz(path, "left", max_bytes=1000)
    with pytest.raises(InputError, match="has no array 'right'"):
        _npy.read_npz(path, "right", max_bytes=1000)
    with zipfile.ZipFile(path) as archive:
        archive.getinfo("left.npy").file_size = 10**12
        with pytest.raises(InputError, match="claims 1000000000000 bytes"):
            _npy.read_member(archive, "left", source="x.npz", max_bytes=10**13)
    path.write_bytes(b"PK no archive")
    with pytest.raises(InputError, match=r"x\.npz is missing or no \.npz archive"):
        _npy.read_npz(path, "left", max_bytes=1000)


BOMB = """
import io, resource, sys
from latentcortex import _npy
from latentcortex.errors import InputError
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (429496729, 1), }"
content = b"\\x93NUMPY\\x01\\x00" + len(text).to_bytes(2, "little") + text + bytes(400)
try:
    _npy.read_npy(io.BytesIO(content), size=len(content), source="bomb.npy")
except InputError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="needs a limit of memory")
def test_a_header_that_claims_gigabytes_takes_no_memory():
    done = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("bomb.npy says that it is float64 of shape (429496729, 1), 3435973832 bytes, and 400")
