"""Several participants in one folder: what each saw, on which side, and how their responses are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentcortex.datasets.folder import Folder
from latentcortex.encoding import Encoder
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.extraction import opened
from latentcortex.maps import Maps
from latentcortex.study import Study

SEEN = {"01": range(50), "02": range(10, 60)}
TEST = {"01": range(36, 50), "02": range(10, 24)}
"""Stimuli 36 to 49 are tested in one and fitted in the other, 10 to 23 the other way round."""


def write(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, sep="\t", index=False)


@pytest.fixture
def two(folder_study: Path) -> Path:
    """Rewrite the study for two participants who saw 40 stimuli in common; a picture that nobody saw is not there."""
    data = folder_study.parent / "data"
    trials, responses = pd.read_csv(data / "trials.tsv", sep="\t", dtype=str), np.load(data / "responses.npy")
    number = trials["stimulus_id"].str[1:].astype(int).to_numpy()
    for name in SEEN:
        own = data / f"sub-{name}"
        own.mkdir()
        seen = np.isin(number, SEEN[name])
        split = np.where(np.isin(number[seen], TEST[name]), "test", "train")
        write(trials[seen].assign(split=split), own / "trials.tsv")
        np.save(own / "responses.npy", responses[seen][:, : 30 if name == "01" else 12])
    (data / "trials.tsv").unlink()
    (data / "responses.npy").unlink()
    stimuli = pd.read_csv(data / "stimuli.tsv", sep="\t", dtype=str)
    write(pd.concat([stimuli, pd.DataFrame([{"stimulus_id": "s999", "stim_file": "none.png"}])]), data / "stimuli.tsv")
    folder_study.write_text(folder_study.read_text().replace('["01"]', '["01", "02"]'))
    return folder_study


def test_participants_of_different_stimuli_and_splits_are_each_scored_on_their_own_test_set(
    two: Path, tmp_path: Path
) -> None:
    study, out = Study.read(two), tmp_path / "out"
    study.run(out, progress=False)
    dataset = study.dataset()
    store = next(path for path in sorted((out / "features").iterdir()) if path.is_dir())
    features = opened(store)
    assert features is not None
    assert features.ids == tuple(f"s{i:03d}" for i in range(60))
    for name in SEEN:
        responses = dataset.responses(name)
        test_ids = [one for one in responses.ids if int(one[1:]) in TEST[name]]
        train, test = responses.split(test_ids=test_ids)
        expected = Encoder(BandedRidge(seed=study.seed)).fit(features, train).score(features, test)
        found = Maps.load(out, participant=name).values(analysis="latents", statistic="r")
        np.testing.assert_allclose(found, expected.values(statistic="r"), atol=2e-6)
        facts = json.loads((out / f"sub-{name}" / f"sub-{name}_report.json").read_text())["facts"]
        assert (facts["n_train"], facts["n_test"]) == (36, 14)
        assert facts["n_voxels"] == (30 if name == "01" else 12)
    page = (out / "group.html").read_text()
    assert "sub-01" in page
    assert "sub-02" in page


def test_a_stimulus_may_be_fitted_for_one_and_tested_for_another(two: Path) -> None:
    folder = Folder(str(two.parent / "data"), participants=["01", "02"])
    split = {name: dict(folder.rows(name)[["stimulus", "split"]].to_numpy().tolist()) for name in SEEN}
    assert (split["01"]["s040"], split["02"]["s040"]) == ("test", "train")
    assert (split["01"]["s012"], split["02"]["s012"]) == ("train", "test")
    assert (folder.space("01").n_voxels, folder.space("02").n_voxels) == (30, 12)


def test_only_what_the_asked_for_participants_saw_is_listed_and_hashed(two: Path, caplog) -> None:
    data = two.parent / "data"
    with caplog.at_level("INFO"):
        alone = Folder(str(data), participants=["02"])
        assert alone.stimuli().ids == tuple(f"s{i:03d}" for i in SEEN["02"])
    assert "11 of 61 stimuli of stimuli.tsv were not shown and are left out." in caplog.text
    before = {name: Folder(str(data), participants=["01", "02"]).fingerprint(name) for name in SEEN}
    assert alone.fingerprint("02") == before["02"]
    (data / "stimuli" / "s005.png").write_bytes((data / "stimuli" / "s006.png").read_bytes())
    after = {name: Folder(str(data), participants=["01", "02"]).fingerprint(name) for name in SEEN}
    assert after["01"] != before["01"]
    assert after["02"] == before["02"]


def test_a_column_participant_says_whose_a_trial_is(two: Path, tmp_path: Path) -> None:
    data, joint = two.parent / "data", tmp_path / "joint"
    joint.mkdir()
    shutil.copytree(data / "stimuli", joint / "stimuli")
    shutil.copy(data / "stimuli.tsv", joint)
    tables, responses = [], []
    for name in SEEN:
        table = pd.read_csv(data / f"sub-{name}" / "trials.tsv", sep="\t", dtype=str)
        tables.append(table.assign(participant=name))
        responses.append(np.load(data / f"sub-{name}" / "responses.npy")[:, :12])
    order = np.random.default_rng(0).permutation(200)
    write(pd.concat(tables).iloc[order], joint / "trials.tsv")
    for fortran in (False, True):
        values = np.concatenate(responses)[order]
        np.save(joint / "responses.npy", np.asfortranarray(values) if fortran else values)
        folder = Folder(str(joint), participants=["01", "02"])
        for name, own in zip(SEEN, responses, strict=True):
            given, rank = folder.responses(name, slice(3, 9)), order[(order < 100) == (name == "01")] % 100
            np.testing.assert_array_equal(given.data, own[rank, 3:9])
            assert given.ids == folder.responses(name).ids
            assert set(given.ids) == {f"s{i:03d}" for i in SEEN[name]}
    with pytest.raises(InputError, match="has no trial of participant '03'; its column participant has 01, 02"):
        Folder(str(joint), participants=["03"]).rows("03")


def test_what_is_wrong_in_one_of_several_folders_names_its_file(two: Path) -> None:
    data = two.parent / "data"
    with pytest.raises(InputError, match=r"sub-03.trials.tsv is missing"):
        Folder(str(data), participants=["01", "03"]).stimuli()
    np.save(data / "sub-02" / "responses.npy", np.ones((3, 12)))
    with pytest.raises(AlignmentError, match=r"sub-02.responses.npy is \(3, 12\), trials.tsv has 100 rows"):
        Folder(str(data), participants=["01", "02"]).space("02")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "<i2", "u1"])
def test_some_voxels_are_those_columns_of_the_file(folder_study: Path, order: str, dtype: str) -> None:
    data = folder_study.parent / "data"
    values = np.random.default_rng(0).integers(0, 100, (120, 30)).astype(dtype, order=order)
    np.save(data / "responses.npy", values)
    folder = Folder(str(data))
    for start, stop in ((0, 30), (0, 1), (7, 23), (29, 30)):
        part = folder.responses("01", slice(start, stop))
        assert part.data.dtype == np.float32
        assert part.space.n_voxels == stop - start
        np.testing.assert_array_equal(part.data, values[:, start:stop].astype(np.float32))


def test_a_number_beyond_float32_is_named_with_its_place(folder_study: Path) -> None:
    data = folder_study.parent / "data"
    values = np.random.default_rng(0).standard_normal((120, 30))
    values[61, 17] = -1e300
    np.save(data / "responses.npy", values)
    folder = Folder(str(data))
    assert np.isfinite(folder.responses("01", slice(0, 17)).data).all()
    with pytest.raises(InputError, match=r"-1e\+300 in row 61, column 17 \(counted from 0\), of stimulus s001"):
        folder.responses("01", slice(10, 20))


def test_a_file_that_shrinks_while_it_is_read_is_one_line(folder_study: Path) -> None:
    path = folder_study.parent / "data" / "responses.npy"
    folder = Folder(str(path.parent))
    folder.responses("01", slice(0, 2))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"responses.npy ends early: it has changed while it was read"):
        folder.responses("01", slice(20, 30))
