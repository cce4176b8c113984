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
from layouts.nsd import replaced

from latentcortex.cli import main
from latentcortex.datasets import _voxel_major
from latentcortex.datasets.nsd import NSD
from latentcortex.maps import Maps
from latentcortex.space import Atlas

Made = Callable[..., NSD]


def planted(nsd_release: layout.NSD, dataset: NSD, sessions: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    """Take what the release has of the voxels of a dataset, (n_trials, n_voxels)."""
    places = tuple(dataset.space("01").indices.T)  # type: ignore[union-attr]
    return np.concatenate([nsd_release.percent("01", session)[places].T for session in sessions])


# Who saw what


def test_each_amplitude_is_that_of_the_image_that_was_loaded(nsd_release: layout.NSD, make_nsd: Made) -> None:
    """An id that is one off, another session or axes in another order would give other numbers."""
    dataset = make_nsd(nsd_release)
    rows, space, stimuli = dataset.rows("01"), dataset.space("01"), dataset.stimuli()
    percent = dataset.responses("01").data
    clean = ~np.isin(space.numbers[nsd_release.partly], []) & (
        np.arange(space.n_voxels) != space.numbers[nsd_release.bright]
    )
    gain = nsd_release.gain()[tuple(space.indices.T)]
    shown = range(0, len(rows), 45)
    seen = np.array([stimuli.load(rows["stimulus"][trial]).mean() for trial in shown])
    session = rows["session"].astype(int).to_numpy()[shown]
    greys = (percent[shown] * 300 - 40 * session[:, None]) / gain + 128
    for voxel in np.flatnonzero(clean):
        valid = ~np.isnan(greys[:, voxel])
        assert valid.all() == (voxel != space.numbers[nsd_release.partly])
        np.testing.assert_allclose(greys[valid, voxel], seen[valid], atol=0.01)


def test_trials_are_750_of_each_session_in_runs_of_63_and_62(nsd_release: layout.NSD, make_nsd: Made) -> None:
    rows = make_nsd(nsd_release).rows("01")
    assert rows["session"].drop_duplicates().tolist() == ["01", "02", "03"]
    sizes = rows.groupby(["session", "run"]).size()
    assert sizes.tolist() == [63, 62] * 18
    assert (rows["n_repeats"] == 1).all()


@pytest.mark.parametrize(
    ("preset", "participant", "n_sessions"),
    [("nsd1000", "01", 40), ("takagi2023", "01", 37), ("takagi2023", "03", 29), ("takagi2023", "08", 27)],
)
def test_presets_test_on_the_shared_images_of_their_first_sessions(
    nsd_copy: layout.NSD, make_nsd: Made, preset: str, participant: str, n_sessions: int
) -> None:
    folder = nsd_copy.betas(participant)
    (nsd_copy.root / "nsddata/ppdata/subj01/behav/responses.tsv").unlink()
    for session in range(1, 41):
        (folder / f"betas_session{session:02d}.hdf5").touch()
    rows = make_nsd(nsd_copy, participants=[participant], preset=preset).rows(participant)
    order = nsd_copy.masterordering[: 750 * n_sessions]
    assert len(rows) == 750 * n_sessions
    test = rows[rows["split"] == "test"]
    assert len(test) == (order <= 1000).sum()
    assert test["stimulus"].nunique() == len(np.unique(order[order <= 1000]))
    mine = nsd_copy.subjectim[int(participant) - 1, order - 1] - 1
    assert rows["stimulus"].tolist() == [f"nsd-{image:05d}" for image in mine]


def test_runs_are_those_of_the_pattern_where_behaviour_was_not_downloaded(nsd_copy: layout.NSD, make_nsd: Made) -> None:
    expected = make_nsd(nsd_copy).rows("01")
    (nsd_copy.root / "nsddata/ppdata/subj01/behav/responses.tsv").unlink()
    pd.testing.assert_frame_equal(make_nsd(nsd_copy).rows("01"), expected)


def test_sessions_that_were_not_downloaded_are_named(
    nsd_copy: layout.NSD, make_nsd: Made, caplog: pytest.LogCaptureFixture
) -> None:
    """One is a link to what git-annex did not fetch."""
    path = nsd_copy.betas("01") / "betas_session02.hdf5"
    path.unlink()
    path.symlink_to("../../.git/annex/objects/x")
    with caplog.at_level(logging.INFO, logger="latentcortex"):
        dataset = make_nsd(nsd_copy, n_sessions=5)
        assert set(dataset.rows("01")["session"]) == {"01", "03"}
    assert "3 of the first 5 sessions of subj01 are not on the disk and are left out: 2, 4 to 5." in caplog.text
    np.testing.assert_array_equal(dataset.responses("01").data, planted(nsd_copy, dataset, (1, 3)))


def test_captions_are_the_first_five_of_the_image_of_coco(nsd_release: layout.NSD, make_nsd: Made) -> None:
    stimuli = make_nsd(nsd_release).stimuli()
    for name, captions in zip(stimuli.ids, stimuli.table["captions"], strict=True):
        image = int(name[4:])
        assert captions == tuple(f"grey {layout.grey(image)}, {k}" for k in range(5))
        assert stimuli.table["coco_split"][name] == nsd_release.coco[image][1]
    assert set(stimuli.table["coco_split"]) == {"train2017", "val2017"}


def test_a_study_without_captions_has_none(nsd_copy: layout.NSD, make_nsd: Made) -> None:
    (nsd_copy.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").unlink()
    assert set(make_nsd(nsd_copy).stimuli().table["captions"]) == {()}


# What the voxels did


def test_any_voxels_of_hdf5_are_those_that_were_planted(nsd_release: layout.NSD, make_nsd: Made) -> None:
    dataset = make_nsd(nsd_release)
    expected = planted(nsd_release, dataset)
    assert dataset.space("01").n_voxels == 59
    np.testing.assert_array_equal(dataset.responses("01").data, expected)
    part = dataset.responses("01", slice(7, 31))
    np.testing.assert_array_equal(part.data, expected[:, 7:31])


def test_a_file_that_was_packed_is_read_like_one_that_is_not(nsd_copy: layout.NSD, make_nsd: Made) -> None:
    path = nsd_copy.betas("01") / "betas_session02.hdf5"
    with h5py.File(path) as file:
        values = file["betas"][:]
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=values, chunks=(50, 2, 2, 2), compression="gzip")
    dataset = make_nsd(nsd_copy)
    np.testing.assert_array_equal(dataset.responses("01").data, planted(nsd_copy, dataset))


def test_nifti_is_read_like_hdf5(nsd_copy: layout.NSD, make_nsd: Made) -> None:
    """A chunk is read after the copy by voxel was made."""
    for path in nsd_copy.betas("01").glob("*.hdf5"):
        path.unlink()
    nsd_copy.write_sessions("01", form="nifti")
    dataset = make_nsd(nsd_copy)
    np.testing.assert_array_equal(dataset.responses("01", slice(3, 20)).data, planted(nsd_copy, dataset)[:, 3:20])
    assert dataset.survey("01").saturated.sum() > 0


def test_a_session_in_which_a_voxel_is_zero_throughout_is_nan_and_counted(
    nsd_release: layout.NSD, make_nsd: Made, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_nsd(nsd_release)
    voxel = dataset.space("01").numbers[nsd_release.partly]  # type: ignore[union-attr]
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
    nsd_release: layout.NSD, make_nsd: Made, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_nsd(nsd_release)
    n_expected = sum((layout.grey(nsd_release.images("01", session)) > 180).sum() for session in (1, 2, 3))
    with caplog.at_level(logging.INFO, logger="latentcortex"):
        table = dataset.tables("01")["nsd"].set_index(["i", "j", "k"])
    assert table["n_saturated"].loc[nsd_release.bright] == n_expected == table["n_saturated"].sum()
    assert f"{n_expected} amplitudes of 1 voxels of subj01 are beyond the 109 percent" in caplog.text


def test_the_authors_noise_ceiling_lies_beside_the_maps(nsd_release: layout.NSD, make_nsd: Made) -> None:
    dataset = make_nsd(nsd_release)
    ncsnr = nib.load(nsd_release.betas("01") / "ncsnr.nii.gz").get_fdata()[tuple(dataset.space("01").indices.T)]  # type: ignore[union-attr]
    table = dataset.tables("01")["nsd"]
    np.testing.assert_allclose(table["ncsnr"], ncsnr)
    np.testing.assert_allclose(table["noise_ceiling_3"], ncsnr**2 / (ncsnr**2 + 1 / 3))
    np.testing.assert_allclose(table["noise_ceiling_1"], ncsnr**2 / (ncsnr**2 + 1))


def test_the_methods_text_says_what_was_read_and_left_out(nsd_release: layout.NSD, make_nsd: Made) -> None:
    said = make_nsd(nsd_release, preset="takagi2023", betas="b3").methods("01")
    assert "participant subj01 of the Natural Scenes Dataset [@allen2022]" in said
    assert "(`betas_fithrf_GLMdenoise_RR`), of 2,250 trials in 3 sessions" in said
    n_shared = len(set(nsd_release.masterordering[:2250][nsd_release.masterordering[:2250] <= 1000]))
    assert f"The {n_shared:,} images that all participants were to see are the test set, as in [@takagi2023]." in said
    assert "1 of the 59 voxels were outside the field of view" in said


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
    nsd_release: layout.NSD, make_nsd: Made, rois: list[str], labels: dict[str, tuple[int, ...]]
) -> None:
    space = make_nsd(nsd_release, rois=rois).space("01")
    inside = [np.isin(nsd_release.label_volume(name)[""], list(of)) for name, of in labels.items()]
    np.testing.assert_array_equal(space.mask, np.logical_or.reduce(inside))  # type: ignore[union-attr]
    np.testing.assert_allclose(space.affine[:3, 3], [-1.5 * 1.8, -2 * 1.8, -1.8], rtol=1e-6)  # type: ignore[union-attr]


def test_regions_of_two_hemispheres_are_joined_where_both_together_were_not_downloaded(
    nsd_copy: layout.NSD, make_nsd: Made
) -> None:
    expected = make_nsd(nsd_copy, rois=["streams/lateral"]).space("01")
    (nsd_copy.root / "nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz").unlink()
    np.testing.assert_array_equal(make_nsd(nsd_copy, rois=["streams/lateral"]).space("01").mask, expected.mask)  # type: ignore[union-attr]


def test_an_atlas_of_the_report_may_be_a_file_of_regions(nsd_release: layout.NSD, make_nsd: Made) -> None:
    dataset = make_nsd(nsd_release)
    space = dataset.space("01")
    folder = dataset.atlas_folder("01", "streams")
    atlas = Atlas.find(str(folder), space)
    assert atlas.names == layout.STREAMS
    labels = nsd_release.label_volume("streams")[""].clip(0)
    np.testing.assert_array_equal(space.take(atlas.labels), labels[tuple(space.indices.T)])  # type: ignore[union-attr]
    assert dataset.atlas_folder("01", "streams") == folder
    assert dataset.atlas_folder("01", "phantom") is None


# Surfaces


@pytest.fixture
def on_fsaverage(nsd_copy: layout.NSD) -> layout.NSD:
    """Write one session of some vertices of fsaverage; one is nan, and one of another session."""
    folder = nsd_copy.betas("01", "fsaverage")
    label = nsd_copy.root / "nsddata/freesurfer/fsaverage/label"
    label.mkdir(parents=True)
    for side, values in fsaverage_values(nsd_copy).items():
        layout.write_mgh(folder / f"{side}.betas_session01.mgh", layout.FSAVERAGE, VERTICES, values)
        labels = np.zeros(layout.FSAVERAGE, dtype=np.float32)
        labels[VERTICES] = 1
        nib.save(nib.MGHImage(labels[:, None, None], None), label / f"{side}.nsdgeneral.mgz")
        layout.write_mgh(folder / f"{side}.ncsnr.mgh", layout.FSAVERAGE, VERTICES, np.full((len(VERTICES), 1), 0.5))
    return nsd_copy


VERTICES = np.array([5, 6, 40, 90])


def fsaverage_values(nsd_release: layout.NSD) -> dict[str, np.ndarray]:
    greys = layout.grey(nsd_release.images("01", 1)) / 100.0
    sides = {side: greys * np.arange(first, first + 4)[:, None] for first, side in ((1, "lh"), (11, "rh"))}
    sides["rh"][2] = np.nan
    return sides


def test_fsaverage_is_read_as_percent_that_no_number_divides(on_fsaverage: layout.NSD, make_nsd: Made) -> None:
    dataset = make_nsd(on_fsaverage, space="fsaverage", rois=["nsdgeneral"])
    space = dataset.space("01")
    assert space.vertices.tolist() == [*VERTICES, *(VERTICES + layout.FSAVERAGE)]  # type: ignore[union-attr]
    expected = np.concatenate(list(fsaverage_values(on_fsaverage).values())).T
    np.testing.assert_allclose(dataset.responses("01").data, expected, rtol=1e-6)
    np.testing.assert_allclose(dataset.responses("01", slice(3, 6)).data, expected[:, 3:6], rtol=1e-6)
    table = dataset.tables("01")["nsd"]
    assert table["n_invalid_sessions"].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    assert table["ncsnr"].tolist() == [0.5] * 8


def test_regions_that_were_drawn_on_the_participants_own_surface_are_brought_to_fsaverage(
    on_fsaverage: layout.NSD, make_nsd: Made
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
    dataset = make_nsd(on_fsaverage, space="fsaverage", rois=["prf-visualrois/V2d"])
    space = dataset.space("01")
    atlas = Atlas.find(str(dataset.atlas_folder("01", "prf-visualrois")), "fsaverage")
    assert np.flatnonzero(atlas.labels == 7).tolist() == [30, 30 + layout.FSAVERAGE]
    assert space.vertices.tolist() == [10, 20, 10 + layout.FSAVERAGE, 20 + layout.FSAVERAGE]  # type: ignore[union-attr]


def test_vertices_of_the_participants_own_surface_are_read_from_hdf5(nsd_copy: layout.NSD, make_nsd: Made) -> None:
    subject = nsd_copy.root / "nsddata/freesurfer/subj01"
    shutil.rmtree(subject)
    freesurfer_subject(subject, flat=False)
    folder, greys = nsd_copy.betas("01", "nativesurface"), layout.grey(nsd_copy.images("01", 1)).astype(int)
    stored = {"lh": np.zeros((10242, 750), np.int16), "rh": np.zeros((2562, 750), np.int16)}
    stored["lh"][10240], stored["rh"][3] = greys * 3, greys * -7
    for side, values in stored.items():
        layout.write_hdf5(folder / f"{side}.betas_session01.hdf5", values)
    dataset = make_nsd(nsd_copy, space="nativesurface")
    assert dataset.space("01").n_voxels == 10242 + 2562
    percent = dataset.responses("01", slice(10238, 10246)).data
    np.testing.assert_allclose(percent[:, 2], greys / 100)
    np.testing.assert_allclose(percent[:, 7], greys * -7 / 300, rtol=1e-6)
    assert np.isnan(np.delete(percent, [2, 7], axis=1)).all()


# Fingerprints, copies, size


def test_fingerprints_tell_sessions_amplitudes_and_voxels_apart(nsd_copy: layout.NSD, make_nsd: Made) -> None:
    prints = [make_nsd(nsd_copy).fingerprint("01"), make_nsd(nsd_copy, rois=["streams"]).fingerprint("01")]
    assert make_nsd(nsd_copy).fingerprint("01") == prints[0]
    prints.append(make_nsd(nsd_copy, n_sessions=2).fingerprint("01"))
    path = replaced(nsd_copy.betas("01") / "betas_session02.hdf5")
    with h5py.File(path, "r+") as file:
        file["betas"][3, 1, 1, 1] += 1
    prints.append(make_nsd(nsd_copy).fingerprint("01"))
    assert len(set(prints)) == 4


def test_a_copy_of_another_session_is_not_taken(
    nsd_copy: layout.NSD, make_nsd: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_voxel_major, "BLOCK_BYTES", 100 * 4 * 59)
    for path in nsd_copy.betas("01").glob("*.hdf5"):
        path.unlink()
    nsd_copy.write_sessions("01", form="nifti")
    make_nsd(nsd_copy).responses("01", slice(0, 2))
    path = nsd_copy.betas("01") / "betas_session01.nii.gz"
    nsd_copy.write_volume(path, nsd_copy.stored("01", 3))
    dataset = make_nsd(nsd_copy)
    np.testing.assert_array_equal(dataset.responses("01").data[:750], planted(nsd_copy, dataset, (3,)))


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
