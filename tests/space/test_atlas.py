"""Regions of interest in a folder, and the hash that changes with any file of an atlas."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from _atlases import RECTANGLE, N, flat_points, write

from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import Atlas, Surface, Unlocated, atlas_digest
from latentcortex.study import Study
from latentcortex.study.data import StudyData


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
