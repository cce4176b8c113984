"""Parcellations of a subject of FreeSurfer are atlases, and a damaged one is refused in one line."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from _atlases import LEFT, TABLE, N, annotate
from nibabel.freesurfer import io as freesurfer

from latentcortex import _surfaces
from latentcortex.errors import InputError
from latentcortex.space import Atlas, Surface


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
