"""The Natural Scenes Dataset, from files laid out as its release has them: who saw what, and what each voxel did."""

from __future__ import annotations

import logging
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from _subjects import freesurfer_subject
from layouts import nsd as layout
from scipy.io import loadmat, savemat

from latentcortex.cli import main
from latentcortex.datasets import _voxel_major
from latentcortex.datasets.nsd import NSD
from latentcortex.errors import InputError, LatentcortexError
from latentcortex.maps import Maps
from latentcortex.space import Atlas


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> layout.NSD:
    return layout.NSD(tmp_path_factory.mktemp("nsd")).write()


@pytest.fixture
def damaged(release: layout.NSD, tmp_path: Path) -> layout.NSD:
    """Lay the release out anew, by links, so that a test may replace files."""
    shutil.copytree(release.root, tmp_path / "copy", copy_function=lambda a, b: Path(b).symlink_to(a))
    return layout.NSD(tmp_path / "copy")


def replaced(path: Path) -> Path:
    """Make a link a file of its own."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., NSD]:
    def made(of: layout.NSD, **arguments: object) -> NSD:
        return NSD(str(of.root), scratch=str(tmp_path / "scratch"), **{"rois": ["all"], **arguments})  # type: ignore[arg-type]

    return made


def planted(release: layout.NSD, dataset: NSD, sessions: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    """Take what the release has of the voxels of a dataset, (n_trials, n_voxels)."""
    places = tuple(dataset.space("01").indices.T)  # type: ignore[union-attr]
    return np.concatenate([release.percent("01", session)[places].T for session in sessions])


# Who saw what


def test_each_amplitude_is_that_of_the_image_that_was_loaded(release: layout.NSD, make: Callable[..., NSD]) -> None:
    """An id that is one off, another session or axes in another order would give other numbers."""
    dataset = make(release)
    rows, space, stimuli = dataset.rows("01"), dataset.space("01"), dataset.stimuli()
    percent = dataset.responses("01").data
    clean = ~np.isin(space.numbers[release.partly], []) & (np.arange(space.n_voxels) != space.numbers[release.bright])
    gain = release.gain()[tuple(space.indices.T)]
    shown = range(0, len(rows), 45)
    seen = np.array([stimuli.load(rows["stimulus"][trial]).mean() for trial in shown])
    session = rows["session"].astype(int).to_numpy()[shown]
    greys = (percent[shown] * 300 - 40 * session[:, None]) / gain + 128
    for voxel in np.flatnonzero(clean):
        valid = ~np.isnan(greys[:, voxel])
        assert valid.all() == (voxel != space.numbers[release.partly])
        np.testing.assert_allclose(greys[valid, voxel], seen[valid], atol=0.01)


def test_trials_are_750_of_each_session_in_runs_of_63_and_62(release: layout.NSD, make: Callable[..., NSD]) -> None:
    rows = make(release).rows("01")
    assert rows["session"].drop_duplicates().tolist() == ["01", "02", "03"]
    sizes = rows.groupby(["session", "run"]).size()
    assert sizes.tolist() == [63, 62] * 18
    assert (rows["n_repeats"] == 1).all()


@pytest.mark.parametrize(
    ("preset", "participant", "n_sessions"),
    [("nsd1000", "01", 40), ("takagi2023", "01", 37), ("takagi2023", "03", 29), ("takagi2023", "08", 27)],
)
def test_presets_test_on_the_shared_images_of_their_first_sessions(
    damaged: layout.NSD, make: Callable[..., NSD], preset: str, participant: str, n_sessions: int
) -> None:
    folder = damaged.betas(participant)
    (damaged.root / "nsddata/ppdata/subj01/behav/responses.tsv").unlink()
    for session in range(1, 41):
        (folder / f"betas_session{session:02d}.hdf5").touch()
    rows = make(damaged, participants=[participant], preset=preset).rows(participant)
    order = damaged.masterordering[: 750 * n_sessions]
    assert len(rows) == 750 * n_sessions
    test = rows[rows["split"] == "test"]
    assert len(test) == (order <= 1000).sum()
    assert test["stimulus"].nunique() == len(np.unique(order[order <= 1000]))
    mine = damaged.subjectim[int(participant) - 1, order - 1] - 1
    assert rows["stimulus"].tolist() == [f"nsd-{image:05d}" for image in mine]


def test_runs_are_those_of_the_pattern_where_behaviour_was_not_downloaded(
    damaged: layout.NSD, make: Callable[..., NSD]
) -> None:
    expected = make(damaged).rows("01")
    (damaged.root / "nsddata/ppdata/subj01/behav/responses.tsv").unlink()
    pd.testing.assert_frame_equal(make(damaged).rows("01"), expected)


def test_sessions_that_were_not_downloaded_are_named(
    damaged: layout.NSD, make: Callable[..., NSD], caplog: pytest.LogCaptureFixture
) -> None:
    """One is a link to what git-annex did not fetch."""
    path = damaged.betas("01") / "betas_session02.hdf5"
    path.unlink()
    path.symlink_to("../../.git/annex/objects/x")
    with caplog.at_level(logging.INFO, logger="latentcortex"):
        dataset = make(damaged, n_sessions=5)
        assert set(dataset.rows("01")["session"]) == {"01", "03"}
    assert "3 of the first 5 sessions of subj01 are not on the disk and are left out: 2, 4 to 5." in caplog.text
    np.testing.assert_array_equal(dataset.responses("01").data, planted(damaged, dataset, (1, 3)))


def test_captions_are_the_first_five_of_the_image_of_coco(release: layout.NSD, make: Callable[..., NSD]) -> None:
    stimuli = make(release).stimuli()
    for name, captions in zip(stimuli.ids, stimuli.table["captions"], strict=True):
        image = int(name[4:])
        assert captions == tuple(f"grey {layout.grey(image)}, {k}" for k in range(5))
        assert stimuli.table["coco_split"][name] == release.coco[image][1]
    assert set(stimuli.table["coco_split"]) == {"train2017", "val2017"}


def test_a_study_without_captions_has_none(damaged: layout.NSD, make: Callable[..., NSD]) -> None:
    (damaged.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").unlink()
    assert set(make(damaged).stimuli().table["captions"]) == {()}


# What the voxels did


def test_any_voxels_of_hdf5_are_those_that_were_planted(release: layout.NSD, make: Callable[..., NSD]) -> None:
    dataset = make(release)
    expected = planted(release, dataset)
    assert dataset.space("01").n_voxels == 59
    np.testing.assert_array_equal(dataset.responses("01").data, expected)
    part = dataset.responses("01", slice(7, 31))
    np.testing.assert_array_equal(part.data, expected[:, 7:31])


def test_a_file_that_was_packed_is_read_like_one_that_is_not(damaged: layout.NSD, make: Callable[..., NSD]) -> None:
    path = damaged.betas("01") / "betas_session02.hdf5"
    with h5py.File(path) as file:
        values = file["betas"][:]
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=values, chunks=(50, 2, 2, 2), compression="gzip")
    dataset = make(damaged)
    np.testing.assert_array_equal(dataset.responses("01").data, planted(damaged, dataset))


def test_nifti_is_read_like_hdf5(damaged: layout.NSD, make: Callable[..., NSD]) -> None:
    """A chunk is read after the copy by voxel was made."""
    for path in damaged.betas("01").glob("*.hdf5"):
        path.unlink()
    damaged.write_sessions("01", form="nifti")
    dataset = make(damaged)
    np.testing.assert_array_equal(dataset.responses("01", slice(3, 20)).data, planted(damaged, dataset)[:, 3:20])
    assert dataset.survey("01").saturated.sum() > 0


def test_a_session_in_which_a_voxel_is_zero_throughout_is_nan_and_counted(
    release: layout.NSD, make: Callable[..., NSD], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make(release)
    voxel = dataset.space("01").numbers[release.partly]  # type: ignore[union-attr]
    percent = dataset.responses("01").data[:, voxel]
    assert np.isnan(percent[750:1500]).all()
    assert np.isfinite(np.delete(percent, slice(750, 1500))).all()
    with caplog.at_level(logging.INFO, logger="latentcortex"):
        table = dataset.tables("01")["nsd"]
    assert table["n_invalid_sessions"].tolist() == [int(k == voxel) for k in range(59)]
    assert (
        "1 of 59 voxels of subj01 are not valid in some of 3 sessions (0 or nan throughout), 0 in all." in caplog.text
    )


def test_amplitudes_that_int16_cuts_off_are_counted(
    release: layout.NSD, make: Callable[..., NSD], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make(release)
    n_expected = sum((layout.grey(release.images("01", session)) > 180).sum() for session in (1, 2, 3))
    with caplog.at_level(logging.INFO, logger="latentcortex"):
        table = dataset.tables("01")["nsd"].set_index(["i", "j", "k"])
    assert table["n_saturated"].loc[release.bright] == n_expected == table["n_saturated"].sum()
    assert f"{n_expected} amplitudes of 1 voxels of subj01 are beyond the 109 percent" in caplog.text


def test_the_authors_noise_ceiling_lies_beside_the_maps(release: layout.NSD, make: Callable[..., NSD]) -> None:
    dataset = make(release)
    ncsnr = nib.load(release.betas("01") / "ncsnr.nii.gz").get_fdata()[tuple(dataset.space("01").indices.T)]  # type: ignore[union-attr]
    table = dataset.tables("01")["nsd"]
    np.testing.assert_allclose(table["ncsnr"], ncsnr)
    np.testing.assert_allclose(table["noise_ceiling_3"], ncsnr**2 / (ncsnr**2 + 1 / 3))
    np.testing.assert_allclose(table["noise_ceiling_1"], ncsnr**2 / (ncsnr**2 + 1))


# Which voxels


@pytest.mark.parametrize(
    ("rois", "labels"),
    [
        (["streams"], {"streams": range(1, 8)}),
        (["streams/ventral", "streams/early"], {"streams": (5, 1)}),
        (["prf-visualrois/V1d"], {"prf-visualrois": (2,)}),
        (["prf-visualrois/hV4", "nsdgeneral"], {"prf-visualrois": (7,), "nsdgeneral": (1,)}),
    ],
)
def test_voxels_are_those_of_the_regions(
    release: layout.NSD, make: Callable[..., NSD], rois: list[str], labels: dict[str, tuple[int, ...]]
) -> None:
    space = make(release, rois=rois).space("01")
    inside = [np.isin(release.label_volume(name)[""], list(of)) for name, of in labels.items()]
    np.testing.assert_array_equal(space.mask, np.logical_or.reduce(inside))  # type: ignore[union-attr]
    np.testing.assert_allclose(space.affine[:3, 3], [-1.5 * 1.8, -2 * 1.8, -1.8], rtol=1e-6)  # type: ignore[union-attr]


def test_regions_of_two_hemispheres_are_joined_where_both_together_were_not_downloaded(
    damaged: layout.NSD, make: Callable[..., NSD]
) -> None:
    expected = make(damaged, rois=["streams/lateral"]).space("01")
    (damaged.root / "nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz").unlink()
    np.testing.assert_array_equal(make(damaged, rois=["streams/lateral"]).space("01").mask, expected.mask)  # type: ignore[union-attr]


def test_an_atlas_of_the_report_may_be_a_file_of_regions(release: layout.NSD, make: Callable[..., NSD]) -> None:
    dataset = make(release)
    space = dataset.space("01")
    folder = dataset.atlas_folder("01", "streams")
    atlas = Atlas.find(str(folder), space)
    assert atlas.names == layout.STREAMS
    labels = release.label_volume("streams")[""].clip(0)
    np.testing.assert_array_equal(space.take(atlas.labels), labels[tuple(space.indices.T)])  # type: ignore[union-attr]
    assert dataset.atlas_folder("01", "streams") == folder
    assert dataset.atlas_folder("01", "phantom") is None


# Surfaces


@pytest.fixture
def on_fsaverage(damaged: layout.NSD) -> layout.NSD:
    """Write one session of some vertices of fsaverage; one is nan, and one of another session."""
    folder = damaged.betas("01", "fsaverage")
    label = damaged.root / "nsddata/freesurfer/fsaverage/label"
    label.mkdir(parents=True)
    for side, values in fsaverage_values(damaged).items():
        layout.write_mgh(folder / f"{side}.betas_session01.mgh", layout.FSAVERAGE, VERTICES, values)
        labels = np.zeros(layout.FSAVERAGE, dtype=np.float32)
        labels[VERTICES] = 1
        nib.save(nib.MGHImage(labels[:, None, None], None), label / f"{side}.nsdgeneral.mgz")
        layout.write_mgh(folder / f"{side}.ncsnr.mgh", layout.FSAVERAGE, VERTICES, np.full((len(VERTICES), 1), 0.5))
    return damaged


VERTICES = np.array([5, 6, 40, 90])


def fsaverage_values(release: layout.NSD) -> dict[str, np.ndarray]:
    greys = layout.grey(release.images("01", 1)) / 100.0
    sides = {side: greys * np.arange(first, first + 4)[:, None] for first, side in ((1, "lh"), (11, "rh"))}
    sides["rh"][2] = np.nan
    return sides


def test_fsaverage_is_read_as_percent_that_no_number_divides(
    on_fsaverage: layout.NSD, make: Callable[..., NSD]
) -> None:
    dataset = make(on_fsaverage, space="fsaverage", rois=["nsdgeneral"])
    space = dataset.space("01")
    assert space.vertices.tolist() == [*VERTICES, *(VERTICES + layout.FSAVERAGE)]  # type: ignore[union-attr]
    expected = np.concatenate(list(fsaverage_values(on_fsaverage).values())).T
    np.testing.assert_allclose(dataset.responses("01").data, expected, rtol=1e-6)
    np.testing.assert_allclose(dataset.responses("01", slice(3, 6)).data, expected[:, 3:6], rtol=1e-6)
    table = dataset.tables("01")["nsd"]
    assert table["n_invalid_sessions"].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    assert table["ncsnr"].tolist() == [0.5] * 8


def test_regions_that_were_drawn_on_the_participants_own_surface_are_brought_to_fsaverage(
    on_fsaverage: layout.NSD, make: Callable[..., NSD]
) -> None:
    """Numbers of vertices count from 1: from 0, or the other way round, other vertices would be in V2d."""
    own = on_fsaverage.root / "nsddata/freesurfer/subj01/label"
    transforms = on_fsaverage.root / "nsddata/ppdata/subj01/transforms"
    transforms.mkdir(exist_ok=True)
    for side in ("lh", "rh"):
        labels = np.array([4, 0, 7, -1, 4], dtype=np.float32)
        nib.save(nib.MGHImage(labels[:, None, None], None), own / f"{side}.prf-visualrois.mgz")
        nearest = np.full(layout.FSAVERAGE, 2, dtype=np.int32)
        nearest[[10, 20, 30]] = 1, 5, 3
        nib.save(nib.MGHImage(nearest[:, None, None], None), transforms / f"{side}.white-to-fsaverage.mgz")
    dataset = make(on_fsaverage, space="fsaverage", rois=["prf-visualrois/V2d"])
    space = dataset.space("01")
    atlas = Atlas.find(str(dataset.atlas_folder("01", "prf-visualrois")), "fsaverage")
    assert np.flatnonzero(atlas.labels == 7).tolist() == [30, 30 + layout.FSAVERAGE]
    assert space.vertices.tolist() == [10, 20, 10 + layout.FSAVERAGE, 20 + layout.FSAVERAGE]  # type: ignore[union-attr]


def test_vertices_of_the_participants_own_surface_are_read_from_hdf5(
    damaged: layout.NSD, make: Callable[..., NSD]
) -> None:
    subject = damaged.root / "nsddata/freesurfer/subj01"
    shutil.rmtree(subject)
    freesurfer_subject(subject, flat=False)
    folder, greys = damaged.betas("01", "nativesurface"), layout.grey(damaged.images("01", 1)).astype(int)
    stored = {"lh": np.zeros((10242, 750), np.int16), "rh": np.zeros((2562, 750), np.int16)}
    stored["lh"][10240], stored["rh"][3] = greys * 3, greys * -7
    for side, values in stored.items():
        layout.write_hdf5(folder / f"{side}.betas_session01.hdf5", values)
    dataset = make(damaged, space="nativesurface")
    assert dataset.space("01").n_voxels == 10242 + 2562
    percent = dataset.responses("01", slice(10238, 10246)).data
    np.testing.assert_allclose(percent[:, 2], greys / 100)
    np.testing.assert_allclose(percent[:, 7], greys * -7 / 300, rtol=1e-6)
    assert np.isnan(np.delete(percent, [2, 7], axis=1)).all()


# What is refused


def empty(of: layout.NSD) -> None:
    path = of.betas("01") / "betas_session02.hdf5"
    path.unlink()
    path.touch()


def cut_off(of: layout.NSD) -> None:
    path = replaced(of.betas("01") / "betas_session02.hdf5")
    path.write_bytes(path.read_bytes()[:30_000])


def other_grid(of: layout.NSD) -> None:
    path = of.betas("01") / "betas_session02.hdf5"
    path.unlink()
    layout.write_hdf5(path, of.stored("01", 2)[:-1])


def too_few_trials(of: layout.NSD) -> None:
    path = of.betas("01") / "betas_session02.hdf5"
    path.unlink()
    layout.write_hdf5(path, of.stored("01", 2)[..., :720])


def behaviour_of_another(of: layout.NSD) -> None:
    path = replaced(of.root / "nsddata/ppdata/subj01/behav/responses.tsv")
    lines = path.read_text().splitlines()
    cells = lines[800].split("\t")
    cells[4] = str(int(cells[4]) - 1)
    path.write_text("\n".join([*lines[:800], "\t".join(cells), *lines[801:]]))


def trials_from_zero(of: layout.NSD) -> None:
    path = replaced(of.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv")
    table = pd.read_csv(path)
    columns = [f"subject1_rep{k}" for k in range(3)]
    table[columns] = (table[columns] - 1).clip(lower=0)
    table.to_csv(path, index=False)


def ids_from_zero(of: layout.NSD) -> None:
    path = replaced(of.root / "nsddata/experiments/nsd/nsd_expdesign.mat")
    design = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    savemat(path, {**design, "subjectim": design["subjectim"] - 1})


def no_design(of: layout.NSD) -> None:
    path = of.root / "nsddata/experiments/nsd/nsd_expdesign.mat"
    path.unlink()
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512))


def no_images(of: layout.NSD) -> None:
    (of.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5").unlink()


def no_names(of: layout.NSD) -> None:
    (of.root / "nsddata/freesurfer/subj01/label/streams.mgz.ctab").unlink()


def scaled(of: layout.NSD) -> None:
    (of.betas("01") / "betas_session02.hdf5").unlink()
    image = nib.Nifti1Image(of.percent("01", 2), np.eye(4))
    nib.save(image, of.betas("01") / "betas_session02.nii.gz")


def everything(dataset: NSD) -> None:
    """Read all that a study reads."""
    dataset.rows("01")
    dataset.stimuli()
    dataset.responses("01")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (empty, "betas_session02.hdf5 is empty; expected the betas of a session"),
        (cut_off, "betas_session02.hdf5 is not the betas of a session of NSD, or damaged"),
        (other_grid, r"betas_session02.hdf5: betas are \(750, 3, 5, 3\); expected \(750, 3, 5, 4\)"),
        (too_few_trials, r"betas are \(720, 3, 5, 4\); expected \(750, 3, 5, 4\)"),
        (behaviour_of_another, "responses.tsv row 801: 73KID is .* for trial 50 of session 2"),
        (trials_from_zero, "nsd_stim_info_merged.csv says that subj01 saw nsdId .* download both again"),
        (ids_from_zero, "subjectim runs from 0 to 72999; expected ids from 1|not those of sharedix"),
        (no_design, "nsd_expdesign.mat is not a MATLAB 5 file, or damaged"),
        (no_images, "nsd_stimuli.hdf5 is missing; expected the images of NSD"),
        (no_names, "streams.mgz.ctab is missing: it names the regions of streams"),
        (scaled, "betas_session02.nii.gz holds float32; expected int16, percent x 300"),
    ],
)
def test_what_is_not_as_released_is_refused_in_one_line(
    damaged: layout.NSD, make: Callable[..., NSD], harm: Callable[[layout.NSD], None], message: str
) -> None:
    harm(damaged)
    with pytest.raises(LatentcortexError, match=message) as refused:
        everything(make(damaged, rois=["streams/ventral"]))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rois": ["stream"]}, "stream.*Did you mean .streams"),
        ({"rois": ["streams/ventrl"]}, "ventrl.*Did you mean .ventral"),
        ({"betas": "b1"}, "betas_assumehrf, which is not there, holds no betas_session01.hdf5"),
        ({"participants": ["02"]}, "subj02/func1pt8mm/brainmask.nii.gz is missing"),
    ],
)
def test_what_was_not_downloaded_is_named(
    release: layout.NSD, make: Callable[..., NSD], arguments: dict[str, object], message: str
) -> None:
    dataset = make(release, **arguments)
    with pytest.raises(InputError, match=message):
        dataset.responses(dataset.participants[0])


def test_another_folder_is_not_taken_for_the_release(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder nsddata; expected the folder that holds nsddata"):
        NSD(str(tmp_path))


# Fingerprints, copies, size


def test_fingerprints_tell_sessions_amplitudes_and_voxels_apart(damaged: layout.NSD, make: Callable[..., NSD]) -> None:
    prints = [make(damaged).fingerprint("01"), make(damaged, rois=["streams"]).fingerprint("01")]
    assert make(damaged).fingerprint("01") == prints[0]
    prints.append(make(damaged, n_sessions=2).fingerprint("01"))
    path = replaced(damaged.betas("01") / "betas_session02.hdf5")
    with h5py.File(path, "r+") as file:
        file["betas"][3, 1, 1, 1] += 1
    prints.append(make(damaged).fingerprint("01"))
    assert len(set(prints)) == 4


def test_a_copy_of_another_session_is_not_taken(
    damaged: layout.NSD, make: Callable[..., NSD], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_voxel_major, "BLOCK_BYTES", 100 * 4 * 59)
    for path in damaged.betas("01").glob("*.hdf5"):
        path.unlink()
    damaged.write_sessions("01", form="nifti")
    make(damaged).responses("01", slice(0, 2))
    path = damaged.betas("01") / "betas_session01.nii.gz"
    damaged.write_volume(path, damaged.stored("01", 3))
    dataset = make(damaged)
    np.testing.assert_array_equal(dataset.responses("01").data[:750], planted(damaged, dataset, (3,)))


@pytest.mark.slow
def test_a_session_of_full_size_has_as_many_bytes_as_the_released_one(tmp_path: Path) -> None:
    """And its voxels are read in less memory than a plane of it takes, whatever the number of sessions."""
    release = layout.NSD(tmp_path, shape=(81, 104, 83), sessions=(1, 2))
    release.write_experiment()
    release.write_images()
    release.write_regions("01")
    path = release.betas("01") / "betas_session01.hdf5"
    values = np.zeros((*release.shape, 750), dtype=np.int16)
    values[41, 50, 40] = release.stored_at((41, 50, 40), "01", 1)
    layout.write_hdf5(path, values)
    del values
    assert path.stat().st_size == 1_094_445_528
    shutil.copy(path, path.with_name("betas_session02.hdf5"))
    peaks = []
    for n_sessions in (1, 2):
        dataset = NSD(str(tmp_path), rois=["nsdgeneral"], n_sessions=n_sessions, scratch=str(tmp_path / "scratch"))
        voxel = int(dataset.space("01").numbers[41, 50, 40])  # type: ignore[union-attr]
        assert voxel >= 0
        tracemalloc.start()
        percent = dataset.responses("01", slice(voxel - 500, voxel + 500)).data
        peaks.append(tracemalloc.get_traced_memory()[1] - percent.nbytes)
        tracemalloc.stop()
        np.testing.assert_allclose(percent[:750, 500], release.stored_at((41, 50, 40), "01", 1) / 300, rtol=1e-6)
    assert peaks[1] < 1.2 * peaks[0] < 100e6


STUDY = """
[dataset]
name = "nsd"
root = "nsd"
rois = ["nsdgeneral"]
scratch = "scratch"

[extractor]
name = "pixels"
size = 2

[estimator]
name = "banded_ridge"

[analyses]
run = ["latents"]

[report]
atlas = "streams"
"""


@pytest.mark.slow
def test_a_study_of_the_release_finds_the_grey_in_every_voxel_that_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One voxel lacks a third of its trials, and so images; another one is cut off."""
    layout.NSD(tmp_path / "nsd").write()
    (tmp_path / "study.toml").write_text(STUDY)
    assert main(["run", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out")]) == 0
    maps = Maps.load(tmp_path / "out", participant="01")
    r = maps.values(analysis="latents", statistic="r")
    lacking = maps.space.numbers[1, 2, 1]
    assert np.nanmin(np.delete(r, lacking) if lacking >= 0 else r) > 0.75
    assert np.nanmedian(r) > 0.99
    regions = pd.read_csv(tmp_path / "out/sub-01/sub-01_rois.tsv", sep="\t", na_values="n/a")
    assert set(regions["roi"]) == set(layout.STREAMS.values())
    means = regions.loc[(regions["statistic"] == "r") & (regions["n_valid"] > 0), "mean"]
    assert len(means) > 1
    assert (means > 0.8).all()
    (layout.NSD(tmp_path / "nsd").betas("01") / "betas_session01.hdf5").write_bytes(b"")
    assert main(["check", str(tmp_path / "study.toml")]) == 2
    assert "betas_session01.hdf5 is empty; expected the betas of a session of NSD" in capsys.readouterr().err
