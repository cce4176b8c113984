"""GIFTI: read as nibabel reads it, each array by its intent; without entities, other files and bombs."""

from __future__ import annotations

import base64
import gzip
import resource
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _subjects
import nibabel as nib
import numpy as np
import pytest
from _flips import flipped, read_or_one_line, some_bits
from nibabel.gifti import GiftiDataArray, GiftiImage

from latentcortex import _gifti, _surfaces
from latentcortex.errors import AlignmentError, InputError

POINTS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
TRIANGLES = np.random.default_rng(1).integers(0, 40, (70, 3)).astype(np.int32)


def arrays(encoding: str = "GIFTI_ENCODING_B64GZ") -> list[GiftiDataArray]:
    return [
        GiftiDataArray(POINTS, "NIFTI_INTENT_POINTSET", encoding=encoding),
        GiftiDataArray(TRIANGLES, "NIFTI_INTENT_TRIANGLE", encoding=encoding),
    ]


def written(*darrays: GiftiDataArray) -> bytes:
    return bytes(GiftiImage(darrays=list(darrays)).to_bytes())


def one_array(text: str, *, before: str = "", more: str = "", **attributes: str) -> str:
    """Write a file of one array by hand."""
    about = {
        "Intent": "NIFTI_INTENT_NONE",
        "DataType": "NIFTI_TYPE_FLOAT32",
        "ArrayIndexingOrder": "RowMajorOrder",
        "Dimensionality": "1",
        "Dim0": "3",
        "Encoding": "ASCII",
        "Endian": "LittleEndian",
        "ExternalFileName": "",
        "ExternalFileOffset": "",
        **attributes,
    }
    said = " ".join(f'{key}="{value}"' for key, value in about.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{before}<GIFTI Version="1.0" NumberOfDataArrays="1">'
        f"<DataArray {said}>{more}<Data>{text}</Data></DataArray></GIFTI>"
    )


@pytest.mark.parametrize("encoding", ["GIFTI_ENCODING_ASCII", "GIFTI_ENCODING_B64BIN", "GIFTI_ENCODING_B64GZ"])
@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_those_of_nibabel_whatever_their_order(encoding: str, packed: bool, tmp_path: Path) -> None:
    for order in (1, -1):
        content = written(*arrays(encoding)[::order])
        (tmp_path / "x.gii").write_bytes(gzip.compress(content) if packed else content)
        file = _gifti.read(tmp_path / "x.gii")
        theirs = GiftiImage.from_bytes(content)
        for intent, made in ((_gifti.POINTS, POINTS), (_gifti.TRIANGLES, TRIANGLES)):
            (expected,) = theirs.get_arrays_from_intent(intent)
            np.testing.assert_array_equal(file.only(intent), expected.data)
            np.testing.assert_allclose(file.only(intent), made, atol=1e-5)  # ASCII has few digits
    with pytest.raises(InputError, match="has 0 arrays of values of vertices; expected one"):
        file.only()


def test_an_intent_that_is_none_does_not_break_the_line(tmp_path: Path) -> None:
    (tmp_path / "x.gii").write_text(one_array("1 2 3", Intent="&#10;Traceback"))
    with pytest.raises(InputError, match="Its arrays: an unknown intent") as caught:
        _gifti.read(tmp_path / "x.gii").only(_gifti.LABELS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4"])
@pytest.mark.parametrize("order", ["RowMajorOrder", "ColumnMajorOrder"])
@pytest.mark.parametrize("end", ["LittleEndian", "BigEndian"])
def test_types_and_orders_are_those_of_nibabel(dtype: str, order: str, end: str, tmp_path: Path) -> None:
    values = np.arange(6, dtype=dtype).reshape(2, 3)
    swapped = values.astype(values.dtype.newbyteorder({"LittleEndian": "<", "BigEndian": ">"}[end]))
    content = swapped.tobytes(order={"RowMajorOrder": "C", "ColumnMajorOrder": "F"}[order])
    kind = {"u1": "UINT8", "i4": "INT32", "f4": "FLOAT32"}[dtype]
    about = {"DataType": f"NIFTI_TYPE_{kind}", "ArrayIndexingOrder": order, "Endian": end}
    about |= {"Dimensionality": "2", "Dim0": "2", "Dim1": "3", "Encoding": "Base64Binary"}
    text = one_array(base64.b64encode(content).decode(), **about)
    (tmp_path / "x.gii").write_text(text)
    np.testing.assert_array_equal(_gifti.read(tmp_path / "x.gii").only(), values)
    np.testing.assert_array_equal(GiftiImage.from_bytes(text.encode()).agg_data(), values)


def encoded(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()


ENTITY = '<!DOCTYPE GIFTI [<!ENTITY x "1 2 3">]>'
EMPTY = "<DataArray" + one_array("", Dim0="0").split("<DataArray")[1].removesuffix("</GIFTI>")
PACKED = {"Encoding": "GZipBase64Binary"}
FAULTS: dict[str, tuple[bytes | str, str]] = {
    "empty": ("", "is empty; expected a GIFTI file"),
    "text": ("left", "is not a GIFTI file, or damaged: not well-formed|syntax error"),
    "cut": (one_array("1 2 3")[:-30], "is not a GIFTI file, or damaged"),
    "cut gzip": (gzip.compress(one_array("1 2 3").encode())[:-9], "end-of-stream marker"),
    "gzip of other text": (gzip.compress(b"<GIFTI/>")[:-8] + bytes(8), "CRC check failed"),
    "other XML": ("<html><body/></html>", "its elements are html"),
    "deep": ("<GIFTI>" + "<MD>" * 100 + "</MD>" * 100 + "</GIFTI>", "its elements are GIFTI > MD"),
    "entity": (one_array("&x;", before=ENTITY), "declares elements or entities"),
    "file as entity": (
        one_array("&x;", before='<!DOCTYPE GIFTI [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        "declares elements or entities",
    ),
    "skipped entity": (one_array("&x;", before='<!DOCTYPE GIFTI SYSTEM "http://a/gifti.dtd">'), "uses entities"),
    "file of values": (one_array("", ExternalFileName="/etc/passwd", Encoding="ExternalFileBinary"), "in another file"),
    "named file": (one_array("1 2 3", ExternalFileName="values.bin"), "in another file"),
    "few values": (one_array("1 2"), "has 2 values; expected 3"),
    "many values": (one_array("1 2 3 4"), "cannot be decoded|has 4 values"),
    "words": (one_array("1 2 x"), "cannot be decoded"),
    "no values": ('<GIFTI><DataArray Intent="x"></DataArray></GIFTI>', "an array has no values"),
    "values twice": (one_array("1 2 3").replace("</DataArray>", "<Data>1 2 3</Data></DataArray>"), "values twice"),
    "no axis": (one_array("1 2 3", Dim0=""), "has the axes"),
    "negative axis": (one_array("1 2 3", Dim0="-3"), "has the axes"),
    "dimensionality": (one_array("1 2 3", Dimensionality="1" * 5000), "has the axes"),
    "type": (one_array("1 2 3", DataType="NIFTI_TYPE_RGB24"), "has the type 'NIFTI_TYPE_RGB24'"),
    "encoding": (one_array("1 2 3", Encoding="ROT13"), "is encoded as 'ROT13'"),
    "order": (one_array("1 2 3", ArrayIndexingOrder="Any"), "in the order 'Any'"),
    "no base64": (one_array("!!!", Encoding="Base64Binary"), "cannot be decoded"),
    "no zlib": (one_array("AAAA", **PACKED), "cannot be decoded"),
    "short": (one_array(encoded(np.ones(2, "f4")), **PACKED), "has 2 values; expected 3"),
    "long": (one_array(encoded(np.ones(4, "f4")), **PACKED), "are no 12 bytes"),
    "no checksum": (
        one_array(base64.b64encode(zlib.compress(np.ones(3, "f4").tobytes())[:-4]).decode(), **PACKED),
        "are no 12 bytes",
    ),
    "gigabytes": (one_array("1 2 3", Dim0="99999999999"), "claims arrays of 399,999,999,996 bytes"),
    "long axes": (one_array("1 2 3", Dim0="1" * 100_000), "has the axes"),
    "many arrays": ("<GIFTI>" + EMPTY * 1001 + "</GIFTI>", "has more than 1000 arrays"),
    "more letters": (one_array(" " * 100_000 + "1 2 3"), "has more letters than it can need"),
    "encoding of text": (b"<?xml version='1.0' encoding='none'?><GIFTI/>", "is not a GIFTI file, or damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_gifti_or_reaches_elsewhere_is_one_line(fault: str, tmp_path: Path) -> None:
    content, says = FAULTS[fault]
    (tmp_path / "x.gii").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=says) as caught:
        _gifti.read(tmp_path / "x.gii")
    assert str(tmp_path / "x.gii") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_document_type_that_nibabel_writes_is_no_entity(tmp_path: Path) -> None:
    content = written(GiftiDataArray(np.arange(3, dtype=np.float32)))
    assert b"<!DOCTYPE GIFTI SYSTEM" in content
    (tmp_path / "x.gii").write_bytes(content)
    np.testing.assert_array_equal(_gifti.read(tmp_path / "x.gii").only(), [0, 1, 2])


@pytest.mark.parametrize("packed", [False, True])
def test_a_flipped_bit_gives_the_same_numbers_or_one_line_where_there_is_a_checksum(
    packed: bool, tmp_path: Path
) -> None:
    path, content = tmp_path / "x.gii", written(*arrays())
    content = gzip.compress(content) if packed else content
    n_read = 0
    for damaged in flipped(content, some_bits(content, 400)):
        path.write_bytes(damaged)
        file = read_or_one_line(lambda: _gifti.read(path))
        same = {_gifti.POINTS: POINTS, _gifti.TRIANGLES: TRIANGLES}
        for one in file.arrays if file else ():
            n_read += 1
            if packed:  # around the values XML has no checksum: axes and order of bytes may be other ones
                np.testing.assert_array_equal(one.values, same[one.intent])
            assert one.values.size in (POINTS.size, TRIANGLES.size)
    assert n_read > 0


BOMB = """
import resource, sys
from pathlib import Path
from latentcortex import _gifti
from latentcortex.errors import InputError
limit = resource.RLIMIT_AS
resource.setrlimit(limit, (2**30 + 2**29, resource.getrlimit(limit)[1]))
for path in sys.argv[1:]:
    try:
        _gifti.read(Path(path))
    except InputError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="needs a limit of memory")
def test_bombs_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    packer, million = zlib.compressobj(9), bytes(2**20)
    zeros = b"".join(packer.compress(million) for _ in range(64)) + packer.flush()
    small = one_array(base64.b64encode(zeros).decode(), **PACKED)
    honest = one_array("", Dim0=str(2**29), **PACKED)
    blank = gzip.compress(b"<GIFTI>" + b" " * 2**20, 9) + gzip.compress(b" " * 2**20, 9) * 257
    laughs = "".join(f'<!ENTITY x{i + 1} "{f"&x{i};" * 10}">' for i in range(9))
    laughs = one_array("&x9;", before=f'<!DOCTYPE GIFTI [<!ENTITY x0 "ha">{laughs}]>')
    bombs = [
        (small.encode(), "has more letters than it can need"),
        (honest.encode(), "claims arrays of 2,147,483,648 bytes"),
        (blank, "has more than 268,435,456 bytes"),
        (laughs.encode(), "declares elements or entities"),
    ]
    paths = [tmp_path / f"{i}.gii" for i in range(len(bombs))]
    for path, (content, _) in zip(paths, bombs, strict=True):
        path.write_bytes(content)
    command = [sys.executable, "-c", BOMB, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"OPENBLAS_NUM_THREADS": "1"})
    for line, path, (_, says) in zip(done.stdout.splitlines(), paths, bombs, strict=True):
        assert line.startswith(str(path))
        assert says in line


# --- as surfaces ------------------------------------------------------------------------------------------------------


@pytest.fixture
def density(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write fsaverage4 as nilearn keeps it, and forget it afterwards."""

    folder = _subjects.density(tmp_path / "fsaverage4")
    monkeypatch.setenv("NILEARN_DATA", str(tmp_path))
    for cached in (_surfaces.layout, _surfaces.surface, _surfaces.n_vertices):
        cached.cache_clear()
    yield folder
    for cached in (_surfaces.layout, _surfaces.surface, _surfaces.n_vertices):
        cached.cache_clear()


def test_a_surface_is_found_by_intents_and_its_triangles_name_its_vertices(density: Path) -> None:
    before = _surfaces.surface("white", "fsaverage4")[0]
    path = density / "white_left.gii.gz"
    image: Any = nib.load(path)
    image.darrays.reverse()
    nib.save(image, path)
    _surfaces.surface.cache_clear()
    np.testing.assert_array_equal(_surfaces.surface("white", "fsaverage4")[0].triangles, before.triangles)
    for corner in (-1, 2562):
        image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")[0].data[0, 0] = corner
        nib.save(image, path)
        _surfaces.surface.cache_clear()
        with pytest.raises(InputError, match=r"white_left.gii.gz .*its triangles name vertices .* of 2562"):
            _surfaces.surface("white", "fsaverage4")


def test_numbers_of_vertices_are_compared_hemisphere_by_hemisphere(density: Path) -> None:
    assert len(_surfaces.curvature("fsaverage4")) == 2 * 2562
    for side, n in (("left", 2561), ("right", 2563)):
        nib.save(GiftiImage(darrays=[GiftiDataArray(np.ones(n, np.float32))]), density / f"curv_{side}.gii.gz")
    with pytest.raises(AlignmentError, match="The curvature of the left hemisphere of fsaverage4 has 2561 values"):
        _surfaces.curvature("fsaverage4")
