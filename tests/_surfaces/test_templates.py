"""Cortex other than fsaverage5: densities of fsaverage, subjects of FreeSurfer and of pycortex."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import _subjects
import nibabel as nib
import numpy as np
import pytest

from latentcortex import _surfaces, cli, plotting
from latentcortex._pycortex import overlays, subject
from latentcortex._surfaces.layouts import layout_in, turned
from latentcortex._surfaces.templates import computed_curvature
from latentcortex.errors import AlignmentError, InputError
from latentcortex.maps import Maps
from latentcortex.space import Atlas, Surface
from latentcortex.study import Study

COARSE, CRAS = _subjects.COARSE, _subjects.CRAS
N = 10242 + COARSE
ABOUT = {"analysis": "latents", "model": "c", "band": "c", "statistic": "r", "unit": "correlation", "n_stimuli": 9}


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(_subjects.freesurfer_subject(tmp_path_factory.mktemp("subjects") / "sub-01"))


@pytest.fixture(scope="module")
def without_flat(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("subjects") / "bare"
    return str(_subjects.freesurfer_subject(folder, flat=False, curvature=False))


@pytest.fixture
def fsaverage4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    _subjects.density(tmp_path / "data" / "fsaverage4")
    monkeypatch.setenv("NILEARN_DATA", str(tmp_path / "data"))
    forget()
    yield "fsaverage4"
    forget()


def forget() -> None:
    """Forget surfaces that were read by name."""
    for function in (_surfaces.layout, _surfaces.surface, _surfaces.flat_patch, _surfaces.flat_raster):
        function.cache_clear()


def forward(template: str) -> np.ndarray:
    return np.concatenate([mesh.coordinates[:, 1] for mesh in _surfaces.surface("white", template)])


def test_hemispheres_may_have_different_numbers_of_vertices(native: str) -> None:
    assert _surfaces.n_vertices(native) == (10242, COARSE)
    space = Surface(native, np.array([3, 10242, N - 1]))
    assert [space.where(i) for i in range(3)] == [
        ": vertex 3 of the left hemisphere",
        ": vertex 0 of the right hemisphere",
        f": vertex {COARSE - 1} of the right hemisphere",
    ]
    sides = space.hemispheres(np.arange(3, dtype=np.float32))
    assert (len(sides["L"]), len(sides["R"])) == (10242, COARSE)
    assert (sides["L"][3], sides["R"][0], sides["R"][-1]) == (0, 1, 2)
    assert np.array_equal(space.take(np.arange(N)), [3, 10242, N - 1])
    with pytest.raises(AlignmentError, match=f"has {N}"):
        space.take(np.arange(20484))
    with pytest.raises(AlignmentError, match="No voxel"):
        space.select_voxels(np.array([], dtype=int))


def test_maps_of_a_subject_come_back_with_their_vertices(native: str, tmp_path: Path) -> None:
    space = Surface(native, np.arange(0, N, 7))
    before = Maps.build(space, [(np.linspace(0, 1, space.n_voxels), ABOUT)])
    written = before.save(tmp_path, participant="01")
    assert all("space-fsnative_" in path.name and "den-" not in path.name for path in written)
    sizes = [len(nib.load(path).agg_data()) for path in written if path.suffix == ".gii"]
    assert sizes == [10242, COARSE] * 2
    after = Maps.load(tmp_path, participant="01")
    assert after.space.template == native
    assert np.array_equal(after.space.vertices, space.vertices)
    assert np.allclose(after.data, before.data)
    rows = after.to_dataframe().index
    assert rows[0] == ("L", 0)
    assert rows[-1] == ("R", int(space.vertices[-1]) - 10242)


def test_a_density_is_found_where_nilearn_keeps_it(fsaverage4: str, tmp_path: Path) -> None:
    space = Surface(fsaverage4)
    assert space.n_voxels == 2 * COARSE
    assert space.entities == "space-fsaverage_den-3k"
    assert np.ptp(space.places(), axis=0)[0] > 1000
    panel = plotting.Panel("y", forward(fsaverage4), Surface(fsaverage4))
    plotting.save(plotting.draw(plotting.Scores([panel])), tmp_path / "flat.png")
    names = [path.name for path in Maps.build(space, [(np.ones(2 * COARSE), ABOUT)]).save(tmp_path, participant="01")]
    assert all("den-3k" in name for name in names)


def test_a_density_whose_surfaces_are_elsewhere_needs_none_until_it_is_drawn(tmp_path: Path, monkeypatch) -> None:
    for name in ("HOME", "NILEARN_DATA", "NILEARN_SHARED_DATA", "SUBJECTS_DIR", "FREESURFER_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    space = Surface("fsaverage6")
    assert space.n_voxels == 2 * 40962
    with pytest.raises(InputError, match=r"fetch_surf_fsaverage\('fsaverage6'\).*SUBJECTS_DIR"):
        plotting.draw(plotting.Scores([plotting.Panel("a", np.ones(space.n_voxels), Surface("fsaverage6"))]))


@pytest.mark.parametrize("name", ["SUBJECTS_DIR", "FREESURFER_HOME"])
def test_a_template_of_freesurfer_is_found_too(name: str, tmp_path: Path, monkeypatch) -> None:
    for other in ("HOME", "NILEARN_DATA", "NILEARN_SHARED_DATA", "SUBJECTS_DIR", "FREESURFER_HOME"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / "x" / ("subjects" if name == "FREESURFER_HOME" else "")
    _subjects.freesurfer_subject(place / "fsaverage6")
    monkeypatch.setenv(name, str(tmp_path / "x"))
    forget()
    with pytest.raises(AlignmentError, match="has 10242 vertices; expected 40962"):
        _surfaces.surface("white", "fsaverage6")
    forget()


def test_flat_patches_that_lie_anyhow_are_turned_as_people_know_them(native: str) -> None:
    for side, (flat, usual) in enumerate(
        zip(_surfaces.surface("flat", native), _surfaces.surface("flat"), strict=True)
    ):
        used = np.unique(flat.triangles)
        moved = usual.coordinates[used, :2] - usual.coordinates[used, :2].mean(axis=0)
        u, _, v = np.linalg.svd(flat.coordinates[used, :2].T @ moved)
        turn = u @ v
        assert np.linalg.det(turn) > 0, f"hemisphere {side} is mirrored"
        assert abs(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))) < 25
        distances = np.linalg.norm(flat.coordinates[used, :2] @ turn - moved, axis=1)
        assert distances.max() < 0.01


def test_left_is_left_posterior_in_the_middle_and_dorsal_up_on_a_subject_of_freesurfer(native: str) -> None:
    x, y, _ = _surfaces.flat_patch(native).coordinates.T
    white = np.concatenate([mesh.coordinates for mesh in _surfaces.surface("white", native)])
    known, left = np.isfinite(x), np.arange(N) < 10242
    assert np.nanmax(x[left]) < np.nanmin(x[~left])
    assert np.corrcoef(x[known & left], white[known & left, 1])[0, 1] < -0.85
    assert np.corrcoef(x[known & ~left], white[known & ~left, 1])[0, 1] > 0.85
    assert np.corrcoef(y[known], white[known, 2])[0, 1] > 0.8


def test_a_patch_that_is_right_already_stays_as_it_is() -> None:
    for side, name in enumerate(_surfaces.HEMISPHERES):
        flat, white = _surfaces.surface("flat")[side], _surfaces.surface("white")[side]
        once = turned(flat, white, name)
        twice = turned(once, white, name)
        assert np.allclose(once.coordinates, twice.coordinates, atol=1e-6)


def test_a_curvature_that_is_not_on_the_disk_is_computed(without_flat: str) -> None:
    computed, known = _surfaces.curvature(without_flat), _surfaces.curvature()
    assert np.corrcoef(computed[:10242], known[:10242])[0, 1] > 0.8
    ball = _surfaces.surface("sphere")[0]
    assert np.allclose(computed_curvature(ball), -0.01, atol=5e-4)


def test_a_subject_without_a_flat_surface_is_drawn_inflated(without_flat: str, native: str) -> None:
    panel = plotting.Panel("y", forward(without_flat), Surface(without_flat))
    drawn, asked = plotting.draw(plotting.Scores([panel])), plotting.draw(plotting.Scores([panel]), plotting.Inflated())
    assert np.array_equal(drawn.axes[0].images[0].get_array(), asked.axes[0].images[0].get_array())
    flat = plotting.draw(plotting.Scores([plotting.Panel("y", forward(native), Surface(native))]))
    assert flat.axes[0].images[0].get_array().shape != drawn.axes[0].images[0].get_array().shape


def test_a_figure_of_two_cortices_and_maps_of_another_cortex_are_refused(native: str, without_flat: str) -> None:
    panels = [plotting.Panel("y", forward(name), Surface(name)) for name in (native, without_flat)]
    with pytest.raises(InputError, match="maps of one cortex"):
        plotting.draw(plotting.Scores(panels))
    with pytest.raises(AlignmentError, match=f"has {N} vertices"):
        plotting.Panel("y", np.zeros(20484), Surface(native))
    with pytest.raises(AlignmentError, match=f"Got {COARSE} values, those of one hemisphere"):
        plotting.Panel("y", np.zeros(COARSE), Surface(native))
    rois = Atlas("planted", np.zeros(20484, dtype=int), {}, "fsaverage5")
    with pytest.raises(AlignmentError, match=f"has {N} vertices"):
        plotting.draw(plotting.Scores(panels[:1]), plotting.Flat(rois))


def test_where_surfaces_are_in_the_scanner_is_known_of_freesurfers(native: str) -> None:
    assert np.array_equal(_surfaces.layout(native).to_world()[:3, 3], CRAS)
    assert np.array_equal(_surfaces.layout("fsaverage5").to_world(), np.eye(4))


def test_a_folder_of_pycortex_is_a_template(tmp_path: Path) -> None:
    folder = subject.build(tmp_path / "db")
    template = str(folder)
    assert _surfaces.is_pycortex(template)
    assert _surfaces.n_vertices(template) == (10242, 10242)
    assert np.allclose(_surfaces.curvature(template), _surfaces.curvature())
    assert np.allclose(_surfaces.thickness(template), _surfaces.thickness())
    ours, theirs = _surfaces.flat_raster(160), _surfaces.flat_raster(160, template)
    assert np.mean(ours.inside) == pytest.approx(np.mean(theirs.inside), rel=0.03)
    assert not _surfaces.has("sphere", template)
    assert Surface(template).places().shape == (Surface(template).n_voxels, 3)
    with pytest.raises(InputError, match="give one of its transforms"):
        _surfaces.layout(template).to_world()


def test_a_subject_of_pycortex_is_linked_to_and_one_of_freesurfer_written(native: str, tmp_path: Path) -> None:
    own = subject.build(tmp_path / "db")
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    linked = subject.build(tmp_path / "private", str(own))
    assert (linked / "surfaces" / "flat_lh.gii").is_symlink()
    (linked / "surface-info" / "new.npz").write_bytes(b"")
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*")} == before
    written = subject.build(tmp_path / "private", native)
    assert written.name == "sub-01"
    points, _ = nib.load(written / "surfaces" / "wm_rh.gii").agg_data()
    assert len(points) == COARSE
    with np.load(written / "surface-info" / "curvature.npz") as kept:
        assert (len(kept["left"]), len(kept["right"])) == (10242, COARSE)
    namesake = str(_subjects.freesurfer_subject(tmp_path / "else" / "sub-01"))
    with pytest.raises(InputError, match="is not the subject"):
        subject.build(tmp_path / "private", namesake)


def test_regions_of_a_subject_are_drawn_on_its_own_flatmap(native: str) -> None:
    labels = np.where(forward(native) < -80, 1, 0)
    text = overlays.drawing(labels, {1: "back"}, native).decode()
    assert text.count("<text") == 2
    raster = _surfaces.flat_raster(160, native)
    (outline,) = _surfaces.outlines(raster, labels)
    assert len(outline.anchors) == 2


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "surf" / "lh.white").write_bytes(b"nonsense"), "lh.white is missing or cannot be read"),
        (lambda f: (f / "surf" / "rh.inflated").unlink(), "rh.inflated is missing or cannot be read"),
        (lambda f: (f / "surf" / "lh.full.flat.patch.3d").write_bytes(b"\0" * 20), "not a patch of FreeSurfer"),
        (lambda f: (f / "surf" / "lh.curv").write_bytes(b"\0"), "lh.curv is missing or cannot be read"),
        (
            lambda f: _subjects.write_patch(f / "surf" / "lh.full.flat.patch.3d", np.array([99999]), np.zeros((1, 2))),
            "names vertex 99999",
        ),
    ],
)
def test_damaged_surfaces_are_one_line(damage, says: str, tmp_path: Path) -> None:
    folder = _subjects.freesurfer_subject(tmp_path / "sub-01")
    damage(folder)
    template = str(folder)
    with pytest.raises(InputError, match=says):
        load_all(template)


def load_all(template: str) -> None:
    for kind in ("white", "inflated", "flat"):
        _surfaces.surface(kind, template)
    _surfaces.curvature(template)


def test_several_flat_patches_are_not_chosen_from(tmp_path: Path) -> None:
    folder = _subjects.freesurfer_subject(tmp_path / "sub-01", flat=False)
    for name in ("mine.flat", "yours.flat"):
        (folder / "surf" / f"lh.{name}").write_bytes(b"")
    with pytest.raises(InputError, match=r"several flat patches, lh\.mine\.flat, lh\.yours\.flat"):
        _surfaces.surface("flat", str(folder))


def test_a_folder_without_surfaces_and_an_unknown_name_are_one_line(tmp_path: Path) -> None:
    assert layout_in(tmp_path) is None
    with pytest.raises(InputError, match="holds no surfaces; expected a subject of FreeSurfer"):
        Surface(str(tmp_path))
    with pytest.raises(InputError, match=r"Unknown surface template 'fsaverage55'\. Did you mean 'fsaverage5'"):
        Surface("fsaverage55")


def study_on(folder_study: Path, subject: Path, *, figures: str = "") -> Path:
    """Put the responses of a small study on the vertices of a subject that lies beside it."""
    data, n = folder_study.parent / "data", sum(_surfaces.n_vertices(str(subject)))
    small = np.load(data / "responses.npy")
    wide = np.random.default_rng(0).standard_normal((len(small), n)).astype(np.float32)
    wide[:, 10242 : 10242 + 800] = small[:, :1] + 0.1 * wide[:, :800]
    np.save(data / "responses.npy", wide)
    text = folder_study.read_text().replace('root = "data"', f'root = "data"\ntemplate = "{subject.name}"')
    folder_study.write_text(text + (f"\n[report]\nfigures = {figures}\n" if figures else ""))
    return folder_study


def test_a_study_of_a_subject_of_its_own_has_maps_and_a_page_that_can_be_made_again(
    folder_study: Path, tmp_path: Path
) -> None:
    study = study_on(folder_study, _subjects.freesurfer_subject(folder_study.parent / "bert"))
    out = tmp_path / "out"
    Study.read(study).run(out, progress=False)
    assert {path.name for path in (out / "sub-01" / "figures").iterdir()} >= {
        "latents-flat.png",
        "latents-inflated.png",
    }
    found = Maps.load(out, participant="01")
    hit = np.flatnonzero(found.values(analysis="latents", statistic="mask") == 1)
    assert np.mean((hit >= 10242) & (hit < 11042)) > 0.9
    page = (out / "sub-01.html").read_bytes()
    assert cli.main(["report", str(out)]) == 0
    assert (out / "sub-01.html").read_bytes() == page


def test_a_study_of_a_subject_without_a_flat_surface_says_that_maps_are_inflated(
    folder_study: Path, tmp_path: Path
) -> None:
    subject = _subjects.freesurfer_subject(folder_study.parent / "bert", flat=False)
    study = study_on(folder_study, subject, figures='["default", "accuracy-flat"]')
    out = tmp_path / "out"
    Study.read(study).run(out, progress=False)
    names = {path.name for path in (out / "sub-01" / "figures").iterdir()}
    assert "latents-inflated.png" in names
    assert "latents-flat.png" not in names
    page = (out / "sub-01.html").read_text()
    assert "maps are drawn on inflated cortex" in page
    assert "the cortex has no flat surface: accuracy-flat" in page


def test_surfaces_that_are_missing_are_missed_before_anything_is_computed(
    folder_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = _subjects.freesurfer_subject(folder_study.parent / "bert")
    study = study_on(folder_study, subject)
    (subject / "surf" / "lh.inflated").unlink()
    assert cli.main(["run", str(study), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "lh.inflated is missing" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_regions_of_another_cortex_with_as_many_vertices_are_refused(tmp_path: Path) -> None:
    template = str(subject.build(tmp_path / "db"))
    panel = plotting.Panel("y", forward(template), Surface(template))
    rois = Atlas("planted", np.ones(20484, dtype=int), {1: "all"}, "fsaverage5")  # of fsaverage5
    for canvas in (plotting.Flat(rois), plotting.Inflated(rois)):
        with pytest.raises(InputError, match="regions on fsaverage5"):
            plotting.draw(plotting.Scores([panel]), canvas)
