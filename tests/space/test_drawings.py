"""Regions drawn in a subject of pycortex hold the vertices that pycortex reads, and a bad drawing is refused."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from _atlases import RECTANGLE, SHEET, N, flat_points, write

from latentcortex import _surfaces
from latentcortex._pycortex import overlays
from latentcortex.errors import InputError, MissingExtraError
from latentcortex.space import Atlas, Surface
from latentcortex.space.subject_atlases import exclusive

MARKUP = 'V1 <b>&amp;</b> "ü" λ\' 🧠'


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize(
    ("drawn", "how"),
    [
        (f'<path d="{RECTANGLE}"/>', {}),
        ('<path d="m 20,30 h 40 v 40 h -40 z"/>', {}),
        ('<path d="M20 30 60 30 60 70 20 70"/>', {}),  # open
        ('<path d="m20-5e1h40v40h-40z" transform="translate(0,80)"/>', {}),
        ('<path d="M 0,0 H 1 V 1 H 0 Z" transform="matrix(40 0 0 40 20 30)"/>', {}),
        ('<g transform="scale(2)"><path d="M 0,0 H 40 V 20 H 0 Z" transform="rotate(90)"/></g>', {"around": (60, -10)}),
        ('<path d="M20,30H40V70H20Z"/><g><g><path d="M40,30H60V70H40Z"/></g></g>', {}),
        ('<path d="M 20,30 h 20 v 40 h -20 z m 20,0 h 20 v 40 h -20 z"/>', {}),
        ('<path d="M 30,130 l 40,0 0,40 -40,0 z"/>', {"sheet": 'width="2mm" height="1mm" viewBox="10 100 200 100"'}),
        (f'<path d="{RECTANGLE}"/>', {"sheet": 'width="200px" height="100px"'}),
        (f'<path d="{RECTANGLE}"/>', {"before": "<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'a' 'http://b'>"}),
    ],
)
def test_a_rectangle_holds_the_same_vertices_however_it_is_drawn(drawn: str, how: dict, drawn_on: Path) -> None:
    points, flat = flat_points(drawn_on)
    if "around" in how:
        # scale(2) after rotate(90) takes (x, y) to (-2 y, 2 x): -40..0 across and 0..80 down
        how = {"around": 'transform="translate(60,30) scale(1,.5)"'}
    write(drawn_on, {"V1": drawn}, **how)
    x, y = 200 * points[:, 0], 100 * (1 - points[:, 1])
    expected = (x > 20) & (x < 60) & (y > 30) & (y < 70) & flat
    found = Atlas.find("overlays", str(drawn_on))
    assert found.names == {1: "V1"}
    assert expected.sum() > 500
    assert dice(found.labels == 1, expected) > 0.999


@pytest.mark.parametrize(
    "data",
    [
        "m 50,20 a 30,30 0 0 1 0,60 a 30,30 0 0 1 0,-60",
        "m 50,20 c 16.57,0 30,13.43 30,30 c 0,16.57 -13.43,30 -30,30 s -30,-13.43 -30,-30 s 13.43,-30 30,-30",
    ],
)
def test_a_circle_of_curves_holds_what_a_circle_does(data: str, drawn_on: Path) -> None:
    points, flat = flat_points(drawn_on)
    write(drawn_on, {"V1": f'<path d="{data}"/>'})
    expected = (np.hypot(200 * points[:, 0] - 50, 100 * (1 - points[:, 1]) - 50) < 30) & flat
    assert dice(Atlas.find("overlays", str(drawn_on)).labels == 1, expected) > 0.995


@pytest.mark.parametrize(("rule", "holes"), [("", False), ('style="fill:none;fill-rule:evenodd"', True)])
def test_what_lies_in_a_path_twice_is_inside_as_svg_has_it(rule: str, holes: bool, drawn_on: Path) -> None:
    _, flat = flat_points(drawn_on)
    one, two = "M 20,30 H 60 V 70 H 20 Z", "M 30,40 H 50 V 60 H 30 Z"
    write(drawn_on, {"both": f'<g {rule}><path d="{one} {two}"/></g>', "inner": f'<path d="{two}"/>'})
    found = overlays.regions(drawn_on / "overlays.svg", str(drawn_on))
    assert found["inner"].any()
    assert not (found["both"] & ~flat).any()
    assert (found["both"] & found["inner"]).any() != holes
    hole = "M 30,40 V 60 H 50 V 40 Z"  # the other way round
    write(drawn_on, {"both": f'<path d="{one} {hole}"/>', "inner": f'<path d="{two}"/>'})
    found = overlays.regions(drawn_on / "overlays.svg", str(drawn_on))
    assert not (found["both"] & found["inner"]).any()


def regions(folder: Path) -> tuple[np.ndarray, dict[int, str]]:
    points, flat = flat_points(folder)
    labels = np.zeros(N, dtype=np.intp)
    for number, (x, y, radius) in enumerate([(0.35, 0.5, 0.12), (0.7, 0.4, 0.1), (0.2, 0.3, 0.08)], start=1):
        labels[(np.hypot(2 * (points[:, 0] - x), points[:, 1] - y) < radius) & flat] = number
    labels[(np.hypot(2 * (points[:, 0] - 0.8), points[:, 1] - 0.6) < 0.1) & flat] = 1  # on the other side, too
    return labels, {1: MARKUP, 2: "FFA", 3: "A/b%20c"}


@pytest.mark.parametrize("stray", [False, True])
def test_regions_that_we_draw_are_read_back(stray: bool, drawn_on: Path) -> None:
    labels, names = regions(drawn_on)
    if stray:  # vertices outside the patch widen the box, and are never counted
        for side in ("lh", "rh"):
            path = drawn_on / "surfaces" / f"flat_{side}.gii"
            image = nib.load(path)
            points, triangles = image.agg_data()
            outside = np.flatnonzero(~np.isin(np.arange(len(points)), triangles))
            points[outside[::2]] = points[triangles[0, 0]] + 400.0
            nib.save(image, path)
    template = str(drawn_on)
    (drawn_on / "overlays.svg").write_bytes(overlays.drawing(labels, names, template))
    found = Atlas.find("overlays", Surface(template))
    assert found.names == names
    assert [dice(labels == number, found.labels == number) > 0.95 for number in names] == [True] * 3
    assert len(found.voxels(Surface(template), [MARKUP])) == (found.labels == 1).sum()
    np.testing.assert_array_equal(found.on_cortex(Surface(template)).labels, found.labels)


def test_overlaps_and_what_is_left_out_are_said(drawn_on: Path, caplog: pytest.LogCaptureFixture) -> None:
    flat_points(drawn_on)
    drawn = {
        "large": '<path d="M 20,20 H 80 V 80 H 20 Z"/>',
        "small": '<path d="M 30,30 H 50 V 50 H 30 Z"/>',
        "V3A": "",
        "outside": '<path d="M 300,30 H 350 V 50 Z"/>',
        "line": '<path d="M 30,30 H 50"/><path d=""/>',
        "round": '<circle cx="30" cy="30" r="10"/>',
    }
    write(drawn_on, drawn)
    caplog.set_level(logging.INFO, logger="latentcortex")
    every, found = overlays.regions(drawn_on / "overlays.svg", str(drawn_on)), Atlas.find("overlays", str(drawn_on))
    assert found.names == {1: "large", 2: "small"}
    np.testing.assert_array_equal(found.labels == 2, every["small"])
    np.testing.assert_array_equal(found.labels == 1, every["large"] & ~every["small"])
    assert "4 regions" in caplog.text
    assert "V3A, line, outside, round" in caplog.text
    assert "1 shapes of" in caplog.text
    (facts,) = [record.facts for record in caplog.records if "count for the smallest" in record.getMessage()]
    assert (facts["n_vertices"], facts["regions"]) == (every["small"].sum(), ["large", "small"])


def test_a_region_that_smaller_ones_cover_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="latentcortex")
    members = {"a": [1, 1, 1, 0], "b": [1, 1, 0, 0], "c": [0, 0, 1, 0]}
    labels, names = exclusive({name: np.array(row, dtype=bool) for name, row in members.items()}, "x")
    assert labels.tolist() == [2, 2, 3, 0]
    assert names == {2: "b", 3: "c"}
    assert "1 regions of x are covered by smaller ones and are left out: a." in caplog.text


def test_regions_of_one_name_are_one_and_those_without_a_name_have_another(drawn_on: Path) -> None:
    flat_points(drawn_on)
    groups = ["inkscape:label='V1'", "inkscape:label='V1'", "inkscape:label=' ' id='g7'", ""]
    path = write(drawn_on, {})
    paths = [f"<g {say}><path d='M {30 + 20 * i},30 h 10 v 40 h -10 z'/></g>" for i, say in enumerate(groups)]
    text = path.read_text().replace('label="shapes">', 'label="shapes">' + "".join(paths))
    path.write_text(text)
    found = Atlas.find("overlays", str(drawn_on))
    assert found.names == {1: "V1", 2: "g7", 3: "region 4"}


LAUGHS = '<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (LAUGHS + '<svg xmlns="http://www.w3.org/2000/svg">&b;</svg>', "declares entities"),
        ('<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>', "declares entities"),
        ('<!DOCTYPE svg [<!ENTITY % x SYSTEM "http://a/b"> %x;]><svg/>', "declares entities"),
        ("<svg><g></svg>", "is not XML"),
        ("", "is not XML"),
        ("<?xml version='1.0' encoding='none'?><svg/>", "is not XML"),
        ("<html/>", "is not a drawing in SVG"),
        ('<svg xmlns="http://www.w3.org/2000/svg"/>', "has 0 layers 'rois'"),
    ],
)
def test_a_drawing_that_is_none_or_hostile_is_refused_in_one_line(content: str, says: str, drawn_on: Path) -> None:
    flat_points(drawn_on)
    (drawn_on / "overlays.svg").write_text(content)
    with pytest.raises(InputError, match=says) as error:
        Atlas.find("overlays", str(drawn_on))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("drawn", "sheet", "says"),
    [
        ('<path id="p" d="M 1,1 X 3"/>', SHEET, "a path 'p' that is none"),
        ('<path d="M 1"/>', SHEET, "cannot be read"),
        ('<path d="M 1,1 L 1e999,3 4,4 Z"/>', SHEET, "not finite"),
        ('<path d="M 1,1 L 2,3 4,4 Z" transform="turn(3)"/>', SHEET, "a transform that is none"),
        ('<path d="M 1,1 L 2,3 4,4 Z" transform="matrix(1 2)"/>', SHEET, "cannot be read"),
        ('<path d="M 1,1 L 2,3 4,4 Z"/>', 'width="100%" height="100%"', "has no size"),
        ('<path d="M 1,1 L 2,3 4,4 Z"/>', 'viewBox="0 0 0 0"', "has no size"),
        ("", SHEET, "no region with a vertex"),
        ('<path d="M 1,1 L 2,3 4,4 Z"/>', f'width="{"1" * 100_000}x" height="1"', "has no size"),
        (f'<path id="p" d="M 1,1 {"L 2,3 4,4 " * 110_000}Z"/>', SHEET, "a path 'p' of 1,100,007 letters"),
        (f'<path id="p" d="M 1,0 {"v 100 v -100 " * 2000}Z"/>', SHEET, "a path 'p' that is no border of a region"),
        ('<path d="M 1,1 L 2,3 4,4 Z"/>' * 2001, SHEET, "has 2,001 paths"),
        (10_001 * "<g>" + 10_001 * "</g>", SHEET, "more than 10000 elements within each other"),
    ],
)
def test_what_cannot_be_read_in_a_drawing_is_named(drawn: str, sheet: str, says: str, drawn_on: Path) -> None:
    flat_points(drawn_on)
    write(drawn_on, {"V1": drawn}, sheet)
    with pytest.raises(InputError, match=says) as error:
        Atlas.find("overlays", str(drawn_on))
    assert "\n" not in str(error.value)


def test_a_deep_drawing_is_read_without_recursion(drawn_on: Path) -> None:
    flat_points(drawn_on)
    write(drawn_on, {"V1": 5000 * "<g>" + f'<path d="{RECTANGLE}"/>' + 5000 * "</g>"})
    assert (Atlas.find("overlays", str(drawn_on)).labels == 1).any()


def test_without_the_library_one_line_names_the_extra(drawn_on: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(drawn_on, {"V1": f'<path d="{RECTANGLE}"/>'})
    monkeypatch.setitem(sys.modules, "svgelements", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'latentcortex\[pycortex\]'") as error:
        Atlas.find("overlays", str(drawn_on))
    assert "\n" not in str(error.value)


def test_errors_name_the_atlases_of_a_subject(drawn_on: Path, freesurfer_subject: Path) -> None:
    with pytest.raises(InputError, match=r"Did you mean 'overlays'\? Known: overlays, phantom"):
        Atlas.find("overlay", str(drawn_on))
    with pytest.raises(InputError, match=r"Known: aparc, aparc.a2009s, phantom"):
        Atlas.find("overlays", str(freesurfer_subject))
    with pytest.raises(InputError, match=r"overlays\.svg cannot be read: No such file"):
        Atlas.find("overlays", str(drawn_on))


def bundled() -> Path:
    """Find the subject that comes with pycortex, as its installation lists it."""
    listed = [path for path in files("pycortex") or () if path.match("db/S1/overlays.svg")]
    places = [Path(str(path.locate())) for path in listed] or [Path(sys.prefix, "share/pycortex/db/S1/overlays.svg")]
    return places[0].resolve().parent


PEER = """
import sys, warnings
sys.stdout = sys.stderr
import cortex, numpy as np
warnings.simplefilter("ignore")
found = cortex.get_roi_verts("S1")
_, triangles = cortex.db.get_surf("S1", "flat", merge=True)
found = {"roi " + name: np.asarray(vertices, dtype=int) for name, vertices in found.items()}
np.savez(sys.argv[1], flat=np.unique(triangles), **found)
"""


def peer_vertices(job: Path, original: Path) -> dict[str, np.ndarray]:
    """Let pycortex read the regions of its subject, in a process with a home of its own and a copy of the drawing."""
    for name in ("config/pycortex", "db/S1/views", "home"):
        (job / name).mkdir(parents=True)
    for name in ("surfaces", "surface-info", "transforms", "anatomicals"):
        (job / "db" / "S1" / name).symlink_to(original / name)
    shutil.copy(original / "overlays.svg", job / "db" / "S1" / "overlays.svg")
    options = f"[basic]\nfilestore = {job / 'db'}\ncache = {job / 'cache'}\n".replace("%", "%%")
    (job / "config" / "pycortex" / "options.cfg").write_text(options)
    own = {"HOME": job / "home", "XDG_CONFIG_HOME": job / "config", "MPLCONFIGDIR": job / "home", "MPLBACKEND": "Agg"}
    around = os.environ | {name: str(value) for name, value in own.items()}
    subprocess.run([sys.executable, "-c", PEER, str(job / "out.npz")], env=around, check=True, timeout=300)
    with np.load(job / "out.npz") as kept:
        return {name.removeprefix("roi "): kept[name] for name in kept.files}


@pytest.mark.skipif(importlib.util.find_spec("cortex") is None, reason="pycortex is not installed")
def test_every_region_of_pycortexs_own_subject_is_what_pycortex_reads(tmp_path: Path) -> None:
    original = bundled()
    theirs = peer_vertices(tmp_path, original)
    flat, template = theirs.pop("flat"), str(original)
    ours = overlays.regions(original / "overlays.svg", template)
    assert list(ours) == list(theirs)
    n = sum(_surfaces.n_vertices(template))
    # pycortex adds vertices that flattening removed to every region that they touch.
    same = {k: dice(ours[k], np.isin(np.arange(n), np.intersect1d(v, flat))) for k, v in theirs.items() if len(v)}
    assert len(same) == 26
    assert min(same.values()) > 0.995
    empty = {name for name, vertices in theirs.items() if len(vertices) == 0}
    assert {name for name, members in ours.items() if not members.any()} == empty == set(theirs) - set(same)
    assert sorted(Atlas.find("overlays", template).names.values()) == sorted(same)
