"""Regions of interest: atlases in folders, drawings of pycortex's subjects, parcellations of FreeSurfer's."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import files
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import nibabel as nib
import numpy as np
import pytest
from _paths import ROOT
from nibabel.freesurfer import io as freesurfer

from latentcortex import _surfaces, cli
from latentcortex._pycortex import overlays, subject, svg
from latentcortex.errors import AlignmentError, InputError, MissingExtraError
from latentcortex.space import Atlas, Surface, Unlocated, atlas_digest
from latentcortex.space.subject_atlases import exclusive
from latentcortex.study import Study
from latentcortex.study.data import StudyData

N = 20484
MARKUP = 'V1 <b>&amp;</b> "ü" λ\' 🧠'


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


# In a folder


def atlas(folder: Path, space: str = "fsaverage5", n: int = 10242) -> Path:
    folder.mkdir()
    (folder / "atlas.json").write_text(json.dumps({"name": "mine", "space": space}))
    (folder / "x_dseg.tsv").write_text("index\tname\n1\tV1\n2\tV2\n")
    for side, value in (("L", 1), ("R", 2)):
        array = nib.gifti.GiftiDataArray(np.full(n, value, np.int32), intent="NIFTI_INTENT_LABEL")
        nib.save(nib.gifti.GiftiImage(darrays=[array]), folder / f"x_hemi-{side}_dseg.label.gii")
    return folder


def test_a_folder_is_an_atlas(tmp_path: Path) -> None:
    found = Atlas.find(str(atlas(tmp_path / "mine")), "fsaverage5")
    assert (found.name, found.names) == ("mine", {1: "V1", 2: "V2"})
    assert np.bincount(found.labels).tolist() == [0, 10242, 10242]


def test_an_atlas_that_is_not_there_or_elsewhere_or_unfinished_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown atlas 'none'\. Known: phantom"):
        Atlas.find("none", "fsaverage5")
    folder = atlas(tmp_path / "mine")
    with pytest.raises(InputError, match="is on fsaverage5; the responses are on fsaverage"):
        Atlas.find(str(folder), "fsaverage")
    next(folder.glob("*hemi-R*")).unlink()
    with pytest.raises(InputError, match="has 0 files"):
        Atlas.find(str(folder), "fsaverage5")


def test_a_folder_may_be_on_a_subject_by_the_name_of_its_folder(tmp_path: Path, drawn_on: Path) -> None:
    own = drawn_on.rename(drawn_on.with_name("S2"))
    found = Atlas.find(str(atlas(tmp_path / "mine", space="S2")), f"{own}/")
    assert (found.labels > 0).all()
    with pytest.raises(InputError, match=r"is on S3; the responses are on .*/S2") as error:
        Atlas.find(str(atlas(tmp_path / "other", space="S3")), str(own))
    assert "\n" not in str(error.value)
    with pytest.raises(AlignmentError, match=r"has 3 vertices on the left; that hemisphere of .*/S2 has 10242"):
        Atlas.find(str(atlas(tmp_path / "small", space="S2", n=3)), str(own))


def label_file(path: Path, *arrays: Any, about: str = "") -> None:
    """Write GIFTI: arrays of labels, or those that are given."""
    meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": about} if about else {})
    made = [
        array
        if isinstance(array, nib.gifti.GiftiDataArray)
        else nib.gifti.GiftiDataArray(array, intent="NIFTI_INTENT_LABEL", datatype=array.dtype)
        for array in arrays
    ]
    nib.save(nib.gifti.GiftiImage(darrays=made, meta=meta), path)


def test_each_hemisphere_has_its_own_number_of_vertices(tmp_path: Path) -> None:
    folder = atlas(tmp_path / "mine")
    label_file(folder / "x_hemi-L_dseg.label.gii", np.ones(10241, np.int32))
    label_file(folder / "x_hemi-R_dseg.label.gii", np.ones(10243, np.int32))
    with pytest.raises(AlignmentError, match="has 10241 vertices on the left; that hemisphere of fsaverage5 has 10242"):
        Atlas.find(str(folder), "fsaverage5")


def test_a_file_that_says_that_it_is_of_the_other_hemisphere_is_refused(tmp_path: Path) -> None:
    folder = atlas(tmp_path / "mine")
    label_file(folder / "x_hemi-R_dseg.label.gii", np.ones(10242, np.int32), about="CortexRight")
    Atlas.find(str(folder), "fsaverage5")
    label_file(folder / "x_hemi-R_dseg.label.gii", np.ones(10242, np.int32), about="CortexLeft")
    with pytest.raises(InputError, match=r"hemi-R.* says that it is of the left hemisphere; expected the right"):
        Atlas.find(str(folder), "fsaverage5")


def test_labels_are_found_by_their_intent_and_may_be_whole_floats(tmp_path: Path) -> None:
    folder, other = atlas(tmp_path / "mine"), nib.gifti.GiftiDataArray(np.full(10242, 7, np.float32))
    path = folder / "x_hemi-L_dseg.label.gii"
    for labels in (np.full(10242, 2, np.int32), np.full(10242, 2, np.float32), np.full(10242, 2, np.uint8)):
        label_file(path, other, labels)
        np.testing.assert_array_equal(Atlas.find(str(folder), "fsaverage5").labels, 2)
    label_file(path, labels, labels)
    with pytest.raises(InputError, match="has 2 arrays of NIFTI_INTENT_LABEL; expected one"):
        Atlas.find(str(folder), "fsaverage5")
    label_file(path, other)
    with pytest.raises(InputError, match=r"has 0 arrays of NIFTI_INTENT_LABEL; .* Its arrays: NIFTI_INTENT_NONE"):
        Atlas.find(str(folder), "fsaverage5")
    for wrong in (1.5, np.nan, 1e12):
        label_file(path, np.full(10242, wrong, np.float32))
        with pytest.raises(InputError, match="holds float32, not all whole"):
            Atlas.find(str(folder), "fsaverage5")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("1\tV1\n1\tV2\n", "row 3, column index: label 1 is V1 already"),
        ("1\tV1\n01\tV2\n", "row 3, column index: label 1 is V1 already"),
        ("1.0\tV1\n", "row 2, column index: '1.0' is no label"),
        ("1\tV1\n\nn/a\tV2\n", "row 4, column index: 'n/a' is no label"),
        ("\tV1\n", "row 2, column index: '' is no label"),
        ("-1\tV1\n", "row 2, column index: '-1' is no label"),
        ("1_0\tV1\n", "row 2, column index: '1_0' is no label"),
        ("²\tV1\n", "row 2, column index: '²' is no label"),
        ("99999999999999999999\tV1\n", "row 2, column index"),
        ("9" * 10_000 + "\tV1\n", "row 2, column index"),
        ("1\t\n", "row 2, column name: label 1 has no name"),
        ("1\tn/a\n", "row 2, column name: label 1 has no name"),
        ("1\tV1\n2\tV1\n", "has several labels named V1"),
    ],
)
def test_a_table_of_labels_that_cannot_be_right_is_one_line(table: str, says: str, tmp_path: Path) -> None:
    folder = atlas(tmp_path / "mine")
    (folder / "x_dseg.tsv").write_text("index\tname\n" + table)
    with pytest.raises(InputError) as caught:
        Atlas.find(str(folder), "fsaverage5")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_label_0_is_no_region_and_labels_without_a_name_are_said(tmp_path: Path, caplog) -> None:
    folder = atlas(tmp_path / "mine")
    (folder / "x_dseg.tsv").write_text("index\tname\n0\tUnknown\n1\tV1\n")
    caplog.set_level(logging.INFO, logger="latentcortex")
    found = Atlas.find(str(folder), "fsaverage5")
    assert found.names == {1: "V1"}
    assert np.bincount(found.labels).tolist() == [0, 10242, 10242]
    assert "Label 0 of atlas mine, Unknown, is no region" in caplog.text.replace(str(folder), "mine")
    (facts,) = [record.facts for record in caplog.records if "without a name" in record.getMessage()]
    assert (facts["n_places"], facts["labels"]) == (10242, [2])


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"name": "mine"}, "atlas.json has no text `space`"),
        ({"name": "mine", "space": None}, "has no text `space`"),
        ({"name": 3, "space": "fsaverage5"}, "has no text `name`"),
        (["mine"], "has no text `name`"),
        (
            {"name": "mine", "space": "fsaverage5", "files": {"x_dseg.tsv": {"sha256": "0"}}},
            "x_dseg.tsv is not the file",
        ),
    ],
)
def test_a_description_that_does_not_say_enough_or_gives_another_hash_is_one_line(
    facts: Any, says: str, tmp_path: Path
) -> None:
    folder = atlas(tmp_path / "mine")
    (folder / "atlas.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=says) as caught:
        Atlas.find(str(folder), "fsaverage5")
    assert "\n" not in str(caught.value)


# Drawn in a subject of pycortex


@pytest.fixture
def drawn_on(tmp_path: Path) -> Path:
    """Make a subject as pycortex keeps it: fsaverage5, without any drawing."""
    folder = subject.build(tmp_path / "db")
    (folder / subject.MARK).unlink()
    return folder


def flat_points(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read where pycortex puts the vertices: touching, 0..1 over the box round all, y up; and which are flat."""
    pytest.importorskip("svgelements")
    sides = [nib.load(folder / "surfaces" / f"flat_{side}.gii").agg_data() for side in ("lh", "rh")]
    (left, left_triangles), (right, right_triangles) = ((points[:, :2].astype(float), t) for points, t in sides)
    left[:, 0] -= left[:, 0].max()
    right[:, 0] -= right[:, 0].min()
    points = np.concatenate([left, right])
    flat = np.isin(np.arange(len(points)), np.concatenate([left_triangles, right_triangles + len(left)]))
    return (points - points.min(axis=0)) / np.ptp(points, axis=0), flat


SHEET = 'width="200" height="100"'


def write(folder: Path, regions: Mapping[str, str], sheet: str = SHEET, before: str = "", around: str = "") -> Path:
    """Write a drawing: name of a region -> its elements."""
    groups = "".join(f"<g inkscape:label={quoteattr(name)}>{drawn}</g>" for name, drawn in regions.items())
    path = folder / "overlays.svg"
    path.write_text(
        f'{before}<svg xmlns="{svg.SVG}" xmlns:inkscape="{svg.INKSCAPE}" {sheet}><g inkscape:label="sulci"/>'
        f'<g inkscape:label="rois" {around}><g inkscape:label="shapes">{groups}</g><g inkscape:label="labels"/></g>'
        "</svg>",
        encoding="utf-8",
    )
    return path


RECTANGLE = "M 20,30 L 60,30 L 60,70 L 20,70 Z"


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


# Parcellated by FreeSurfer

TABLE = np.array([[25, 5, 25, 0, 0], [10, 20, 30, 0, 0], [40, 50, 60, 0, 0], [70, 80, 90, 0, 0]])
LEFT = ["unknown", "bankssts", "cuneus", "corpuscallosum"]
RIGHT = ["Medial_wall", "cuneus", "Ünïcode", "???"]


def annotate(folder: Path, name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Write a parcellation of both hemispheres; return its indices."""
    (folder / "label").mkdir(exist_ok=True)
    rng = np.random.default_rng(n)
    sides = rng.integers(-1, 4, n), rng.integers(-1, 3, n)
    for side, labels, names in zip("lr", sides, (LEFT, RIGHT), strict=True):
        path = folder / "label" / f"{side}h.{name}.annot"
        freesurfer.write_annot(path, labels, TABLE.copy(), [one.encode() for one in names])
    return sides


@pytest.fixture
def freesurfer_subject(tmp_path: Path) -> Path:
    """Write a subject of FreeSurfer with the white surface of fsaverage5 and two parcellations."""
    folder = tmp_path / "bert"
    (folder / "surf").mkdir(parents=True)
    for side, mesh in zip("lr", _surfaces.surface("white"), strict=True):
        freesurfer.write_geometry(folder / "surf" / f"{side}h.white", mesh.coordinates, mesh.triangles)
    for name in ("aparc", "aparc.a2009s"):
        annotate(folder, name, N // 2)
    return folder


@pytest.mark.parametrize("name", ["aparc", "aparc.a2009s"])
def test_a_parcellation_of_a_subject_is_an_atlas(
    name: str, freesurfer_subject: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="latentcortex")
    left, right = annotate(freesurfer_subject, name, N // 2)
    found = Atlas.find(name, Surface(str(freesurfer_subject)))
    assert found.names == {1: "bankssts", 2: "cuneus", 3: "Ünïcode"}
    np.testing.assert_array_equal(found.labels[: N // 2], np.array([0, 1, 2, 0, 0])[left])
    np.testing.assert_array_equal(found.labels[N // 2 :], np.array([0, 2, 3, 0])[right])
    assert f"{(found.labels == 0).sum()} vertices of" in caplog.text


def test_a_template_in_freesurfers_layout_has_its_parcellations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fsaverage3"
    (folder / "surf").mkdir(parents=True)
    (folder / "surf" / "lh.white").touch()
    annotate(folder, "aparc", 642)
    monkeypatch.setenv("SUBJECTS_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    _surfaces.layout.cache_clear()
    assert set(Atlas.find("aparc", "fsaverage3").labels) == {0, 1, 2, 3}
    _surfaces.layout.cache_clear()


def test_a_colour_that_the_table_lacks_is_no_region(freesurfer_subject: Path) -> None:
    path = freesurfer_subject / "label" / "lh.aparc.annot"
    before = Atlas.find("aparc", str(freesurfer_subject)).labels
    content = bytearray(path.read_bytes())
    content[8:12] = (12345).to_bytes(4, "big")  # the first vertex
    path.write_bytes(content)
    after = Atlas.find("aparc", str(freesurfer_subject)).labels
    assert after[0] == 0
    np.testing.assert_array_equal(after[1:], before[1:])


TABLE_AT = 4 + 8 * (N // 2)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: b"", "not an annotation"),
        (lambda content: content[:1000], "not an annotation"),
        (lambda content: content[:TABLE_AT], "not an annotation"),
        (lambda content: content[:TABLE_AT] + bytes(8), "no colour table"),
        (lambda content: content[: TABLE_AT + 4] + b"\xff\xff\xff\xfd" + content[TABLE_AT + 8 :], "no colour table"),
        (lambda content: content[: TABLE_AT + 60], "damaged colour table"),
        (lambda content: content[:-2], "damaged colour table"),
        (lambda content: b"\x00\x00\x00\x05" + content[4:], "has 5 vertices; the surface has 10242"),
        (lambda content: content[:4] + content[12:20] + content[12:], "not in their order"),
    ],
)
def test_a_damaged_parcellation_is_refused_in_one_line(damage, says: str, freesurfer_subject: Path) -> None:
    path = freesurfer_subject / "label" / "rh.aparc.annot"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=says) as error:
        Atlas.find("aparc", str(freesurfer_subject))
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(InputError, match=r"rh.aparc.annot is missing or cannot be read: No such file"):
        Atlas.find("aparc", str(freesurfer_subject))


def test_two_regions_of_one_colour_are_refused(freesurfer_subject: Path) -> None:
    table = TABLE.copy()
    table[2] = table[1]
    path = freesurfer_subject / "label" / "lh.aparc.annot"
    freesurfer.write_annot(path, np.ones(N // 2, dtype=int), table, [name.encode() for name in LEFT])
    with pytest.raises(InputError, match="gives cuneus the colour of another region"):
        Atlas.find("aparc", str(freesurfer_subject))


# What a study's key covers


def test_the_hash_of_an_atlas_changes_with_its_files(tmp_path: Path, drawn_on: Path, freesurfer_subject: Path) -> None:
    places = {
        str(atlas(tmp_path / "mine")): ("fsaverage5", tmp_path / "mine" / "x_dseg.tsv"),
        "overlays": (str(drawn_on), write(drawn_on, {"V1": f'<path d="{RECTANGLE}"/>'})),
        "aparc": (str(freesurfer_subject), freesurfer_subject / "label" / "rh.aparc.annot"),
    }
    for name, (template, path) in places.items():
        before = atlas_digest(name, [Surface(template)])
        assert before == atlas_digest(name, [Surface(template)])
        path.write_bytes(path.read_bytes() + b"\n")
        assert before != atlas_digest(name, [Surface(template)])
        path.unlink()
    assert atlas_digest("", [Unlocated(3)]) == ""
    with pytest.raises(InputError, match=r"needs .*overlays.svg, which is not there"):
        atlas_digest("overlays", [Surface(str(drawn_on))])
    with pytest.raises(InputError, match="Unknown atlas 'aparc'"):
        atlas_digest("aparc", [Unlocated(3)])


def test_an_edited_drawing_is_another_study(folder_study: Path, drawn_on: Path) -> None:
    flat_points(drawn_on)
    write(drawn_on, {"V1": f'<path d="{RECTANGLE}"/>'})
    data = folder_study.parent / "data" / "responses.npy"
    np.save(data, np.random.default_rng(0).standard_normal((120, N)).astype(np.float32))
    text = folder_study.read_text().replace('root = "data"', f'root = "data"\ntemplate = "{drawn_on}"')
    folder_study.write_text(text + '\n[report]\natlas = "overlays"\n')

    def look() -> tuple[str, Atlas | None]:
        study_data = StudyData(Study.read(folder_study), folder_study.parent / "out", progress=False)
        found = study_data.atlas("01")
        assert found is study_data.atlas("01")
        return study_data.provenance.key(["report"]), found

    (key, before), (same, _) = look(), look()
    assert key == same
    write(drawn_on, {"V2": f'<path d="{RECTANGLE}"/>'})
    other, after = look()
    assert other != key
    assert (before.names, after.names) == ({1: "V1"}, {1: "V2"})


# --- in a study -------------------------------------------------------------------------------------------------------


def test_an_atlas_beside_the_study_is_found_from_everywhere_and_noticed_when_it_is_edited(
    folder_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = folder_study.parent / "data", folder_study.parent / "mine"
    small = np.load(data / "responses.npy")
    wide = np.random.default_rng(0).standard_normal((len(small), 20484)).astype(np.float32)
    wide[:, :500] = small[:, :1] + 0.1 * wide[:, :500]
    np.save(data / "responses.npy", wide)
    shutil.copytree(ROOT / "atlases" / "phantom", folder)
    (folder / "atlas.json").write_text('{"name": "phantom", "space": "fsaverage5"}')  # without hashes of its files
    text = folder_study.read_text().replace('root = "data"', 'root = "data"\ntemplate = "fsaverage5"')
    folder_study.write_text(text + '\n[report]\natlas = "mine"\nfigures = ["prediction-against-ceiling"]\n')
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", str(folder_study)]) == 0
    assert cli.main(["run", str(folder_study), "--out", "out", "--quiet"]) == 0
    assert "Regions are those of the atlas phantom." in Path("out", "sub-01.html").read_text()
    assert cli.main(["report", "out"]) == 0
    table = next(folder.glob("*_dseg.tsv"))
    table.write_text(table.read_text().replace("early", "late"))
    capsys.readouterr()
    assert cli.main(["report", "out"]) == 2
    assert "is not as it was when its regions were scored" in capsys.readouterr().err


def test_check_refuses_what_a_run_refuses(folder_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = folder_study.read_text()
    for dataset, report, said in (
        ("", '[report]\natlas = "phantom"', "needs voxels of known position"),
        ('template = "fsaverage55"', "", "Did you mean 'fsaverage5'"),
        ("", '[report]\nviewer = "light"', "needs voxels with a place on cortex"),
    ):
        folder_study.write_text(text.replace('root = "data"', f'root = "data"\n{dataset}') + f"\n{report}\n")
        assert cli.main(["check", str(folder_study)]) == 2
        assert said in capsys.readouterr().err


def test_a_subject_that_was_moved_is_named(tmp_path: Path) -> None:
    subject.build(tmp_path / "db")
    space = Surface(str(tmp_path / "db" / "fsaverage5"))
    (tmp_path / "db").rename(tmp_path / "elsewhere")
    _surfaces.layout.cache_clear()  # as in another process
    with pytest.raises(InputError, match=r"which is not there; was the subject moved\?"):
        Atlas.find("overlays", space)
