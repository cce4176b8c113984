"""Files of FreeSurfer and of pycortex's subjects: read as nibabel and numpy read them, or refused in one line."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import _subjects
import nibabel.freesurfer.io as theirs
import numpy as np
import pytest
from _flips import flipped, read_or_one_line, some_bits

from latentcortex import _surfaces
from latentcortex._surfaces import freesurfer
from latentcortex._surfaces.annot import _regions
from latentcortex._surfaces.layouts import FreeSurferSubject, PycortexSubject, _mesh
from latentcortex.errors import AlignmentError, InputError

N, M = 40, 70
POINTS = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
TRIANGLES = np.random.default_rng(1).integers(0, N, (M, 3)).astype(np.int32)
LABELS = np.random.default_rng(2).integers(0, 3, N)
COLOURS = np.array([[0, 0, 0, 0, 0], [200, 10, 3, 0, 0], [7, 255, 99, 0, 0]])
NAMES = ["unknown", "V1", "größe"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write one hemisphere of a small subject; each file once."""
    about = {"head": [2, 0, 20], "valid": "1  # volume info valid", "filename": "x", "volume": np.array([256] * 3)}
    about |= {"voxelsize": np.ones(3), "xras": np.array([-1.0, 0, 0]), "yras": np.array([0, 0, -1.0])}
    about |= {"zras": np.array([0, 1.0, 0]), "cras": np.array([1.0, 2, 3])}
    theirs.write_geometry(tmp_path / "white", POINTS, TRIANGLES, volume_info=about)
    theirs.write_morph_data(tmp_path / "curv", POINTS[:, 0])
    theirs.write_annot(tmp_path / "annot", LABELS, COLOURS.copy(), NAMES, fill_ctab=True)
    _subjects.write_patch(tmp_path / "patch", np.arange(0, N, 2), POINTS[::2, :2])
    return tmp_path


def annot(path: Path) -> list[np.ndarray]:
    return list(_regions(path, N).values())


def geometry(path: Path) -> list[np.ndarray]:
    read = freesurfer.geometry(path)
    mesh = _mesh(path, read.points, read.triangles)
    return [mesh.coordinates, mesh.triangles]


READERS: dict[str, Callable[[Path], list[np.ndarray]]] = {
    "white": geometry,
    "curv": lambda path: [freesurfer.numbers(path)],
    "annot": annot,
    "patch": lambda path: list(freesurfer.patch(path)),
}


def test_files_are_read_as_nibabel_reads_them(folder: Path) -> None:
    points, triangles, about = theirs.read_geometry(folder / "white", read_metadata=True)
    ours = freesurfer.geometry(folder / "white")
    np.testing.assert_array_equal(ours.points, points)
    np.testing.assert_array_equal(ours.triangles, triangles)
    np.testing.assert_array_equal(np.array(ours.about["cras"].split(), float), about["cras"])
    np.testing.assert_array_equal(freesurfer.numbers(folder / "curv"), theirs.read_morph_data(folder / "curv"))
    labels, colours, names = theirs.read_annot(folder / "annot")
    table = freesurfer.colours((folder / "annot").read_bytes()[8 * N + 4 :], folder / "annot")
    assert table == [(name.decode(), int(row[4])) for name, row in zip(names, colours, strict=True)]
    for region, number in zip(annot(folder / "annot"), (1, 2), strict=True):
        np.testing.assert_array_equal(region, labels == number)


def test_an_old_table_of_colours_is_read_as_nibabel_reads_it(folder: Path) -> None:
    content = (folder / "annot").read_bytes()[: 8 * N + 8]
    entries = [np.array([len(n.encode()) + 1], ">i4").tobytes() + n.encode() + b"\0" for n in NAMES]
    rows = [entry + row[:4].astype(">i4").tobytes() for entry, row in zip(entries, COLOURS, strict=True)]
    table = np.array([3, 2], ">i4").tobytes() + b"x\0" + b"".join(rows)
    (folder / "annot").write_bytes(content + table)
    _, colours, names = theirs.read_annot(folder / "annot")
    assert [n.decode() for n in names] == NAMES
    ours = freesurfer.colours(content[8 * N + 4 :] + table, folder / "annot")
    assert ours == [(name, int(row[4])) for name, row in zip(NAMES, colours, strict=True)]


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_gives_as_many_numbers_or_one_line(name: str, folder: Path) -> None:
    path, content = folder / name, (folder / name).read_bytes()
    expected = READERS[name](path)
    for damaged in flipped(content, some_bits(content, 300)):
        path.write_bytes(damaged)
        arrays = read_or_one_line(lambda: READERS[name](path))
        if arrays is not None and name != "annot":  # a region may have lost its colour
            assert [one.shape for one in arrays] == [one.shape for one in expected]


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_cut_or_grown_or_another_one_is_one_line(name: str, folder: Path) -> None:
    path, content = folder / name, (folder / name).read_bytes()
    cuts = [content[: len(content) * k // 7] for k in range(6)]
    for other in [*cuts, b"\0" * len(content), b"\xff" * len(content), b"text\n" * 99]:
        path.write_bytes(other)
        with pytest.raises(InputError) as caught:
            READERS[name](path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    if name in ("curv", "patch"):
        path.write_bytes(content + b"\0")
        with pytest.raises(InputError):
            READERS[name](path)


def test_a_patch_does_not_name_a_vertex_0_or_one_twice(folder: Path) -> None:
    for vertices in ([3, 3], [-1, 2]):  # the file counts from 1
        _subjects.write_patch(folder / "patch", np.array(vertices), np.zeros((2, 2)))
        with pytest.raises(InputError, match="a vertex 0, or one twice"):
            freesurfer.patch(folder / "patch")


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Path]:
    """Write a subject of FreeSurfer, and forget it afterwards."""
    yield _subjects.freesurfer_subject(tmp_path / "sub-01")
    for cached in (_surfaces.layout, _surfaces.surface, _surfaces.n_vertices):
        cached.cache_clear()


def test_numbers_of_vertices_are_compared_hemisphere_by_hemisphere(subject: Path) -> None:
    left, right = (theirs.read_morph_data(subject / "surf" / f"{side}.curv") for side in ("lh", "rh"))
    theirs.write_morph_data(subject / "surf" / "lh.curv", left[:-1])
    theirs.write_morph_data(subject / "surf" / "rh.curv", np.append(right, right[:1]))
    with pytest.raises(AlignmentError, match=r"The curvature of the left hemisphere of .* has 10241 values"):
        _surfaces.curvature(str(subject))


def test_triangles_name_vertices_of_their_surface(subject: Path) -> None:
    points, triangles = theirs.read_geometry(subject / "surf" / "lh.white")
    triangles[5, 1] = len(points)
    theirs.write_geometry(subject / "surf" / "lh.white", points, triangles)
    with pytest.raises(InputError, match=r"lh.white .*its triangles name vertices 0 to 10242 of 10242"):
        FreeSurferSubject(subject).mesh("white", "left")


def test_numbers_of_a_subject_of_pycortex_are_arrays_of_the_hemisphere(tmp_path: Path) -> None:
    path = tmp_path / "surface-info" / "curvature.npz"
    path.parent.mkdir()
    np.savez(path, left=POINTS[:, 0], right=POINTS[:30, 1])
    layout = PycortexSubject(tmp_path)
    np.testing.assert_array_equal(layout.values("curvature", "left"), -POINTS[:, 0].astype(np.float64))
    np.testing.assert_array_equal(layout.values("curvature", "right"), -POINTS[:30, 1].astype(np.float64))
    np.savez(path, left=POINTS, right=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="expected one for each vertex"):
        layout.values("curvature", "left")
    with pytest.raises(InputError, match=r"is not a plain \.npy array of numbers"):
        layout.values("curvature", "right")


BOMB = """
import resource, sys
from pathlib import Path
from latentcortex._surfaces import freesurfer
from latentcortex.errors import InputError
limit = resource.RLIMIT_AS
resource.setrlimit(limit, (2**30 + 2**29, resource.getrlimit(limit)[1]))
for name in ("geometry", "numbers", "patch"):
    try:
        getattr(freesurfer, name)(Path(sys.argv[1], name))
    except InputError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="needs a limit of memory")
def test_headers_that_claim_gigabytes_take_no_memory(tmp_path: Path) -> None:
    billion = (2**31 - 1).to_bytes(4, "big")
    (tmp_path / "geometry").write_bytes(b"\xff\xff\xfe" + b"x\n\n" + billion * 2)
    (tmp_path / "numbers").write_bytes(b"\xff\xff\xff" + billion * 2 + (1).to_bytes(4, "big"))
    with (tmp_path / "patch").open("wb") as handle:
        handle.truncate(10**11)  # a sparse file
    command = [sys.executable, "-c", BOMB, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"OPENBLAS_NUM_THREADS": "1"})
    lines = done.stdout.splitlines()
    assert "says 2147483647 vertices and 2147483647 triangles, and has 14 bytes" in lines[0]
    assert "values for each of 2147483647 vertices, and has 15 bytes" in lines[1]
    assert "it has 100,000,000,000 bytes; expected at most" in lines[2]
