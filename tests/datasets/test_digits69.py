"""The whole path on a real recording: V1-V3 of one participant, 100 handwritten digits, one trial each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import _battery as battery
import numpy as np
import pytest
from _paths import ROOT
from _permutations import permuted_r

from latentcortex import inference, scoring
from latentcortex.encoding import Folds, Null
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.extraction import extract
from latentcortex.extractors import make
from latentcortex.splits import Splits
from latentcortex.study import Study

DIGITS = ROOT.parent / "shared" / "data" / "digits69"
pytestmark = pytest.mark.skipif(not DIGITS.is_dir(), reason="the recording digits69 is not shipped with the project")


def significant(tmp_path: Path, root: Path) -> dict:
    """Run the example on this folder, with fewer permutations; enough for this many voxels by BH."""
    pytest.importorskip("torch", reason="z needs the extra [ldm]")
    text = (ROOT / "examples" / "digits69.toml").read_text().replace("../../shared/data/digits69", str(root))
    study = tmp_path / "digits69.toml"
    study.write_text(text.replace("n_permutations = 500", "n_permutations = 120"))
    Study.read(study).run(tmp_path / "out", progress=False)
    return json.loads((tmp_path / "out" / "summary.json").read_text())["results"][0]


def test_the_image_latent_finds_many_of_every_fourth_voxel(tmp_path):
    data = tmp_path / "data"
    shutil.copytree(DIGITS / "stimuli", data / "stimuli")
    for name in ("stimuli.tsv", "trials.tsv"):
        shutil.copy(DIGITS / name, data)
    np.save(data / "responses.npy", np.load(DIGITS / "responses.npy")[:, ::4])
    row = significant(tmp_path, data)
    assert (row["band"], row["n_voxels"]) == ("z", 773)
    assert row["n_significant"] >= 650 // 4


@pytest.mark.slow
def test_the_image_latent_finds_hundreds_of_voxels(tmp_path):
    row = significant(tmp_path, DIGITS)
    assert (row["band"], row["n_voxels"]) == ("z", 3092)
    assert row["n_significant"] >= 650


@pytest.mark.parametrize(
    ("n", "every"), [pytest.param(99, 2, id="fast"), pytest.param(400, 1, id="full", marks=pytest.mark.slow)]
)
def test_pixels_find_750_voxels_and_shuffled_stimuli_none_unless_p_is_parametric(n, every):
    """Each shuffle is tested against the others. A parametric p of r pooled over folds finds something in most."""
    assert [str(one) for one in battery.digits(DIGITS, n, every=every) if not one.passed] == []


@pytest.mark.slow
def test_shuffled_stimuli_find_nothing(tmp_path):
    """Ten shuffles, each tested against the others and 390 more."""
    pytest.importorskip("torch", reason="z needs the extra [ldm]")
    from latentcortex.datasets.folder import Folder

    folder = Folder(str(DIGITS))
    features = extract(folder.stimuli(), make("ldm", model="phantom", bands=["z"]), store=tmp_path, progress=False)
    responses = folder.responses("01")
    splits = Splits.k_fold(responses.ids, 10, seed=0)
    folds = Folds.of(features, responses, splits, "session")
    null = permuted_r(BandedRidge(seed=0), features, responses, splits, "session", Null("permutation", 400, 1))
    empty = 0
    for i in range(10):
        p = inference.permutation_p(null[i], np.delete(null, i, axis=0))
        empty += not inference.fdr(p, q=0.05).rejected.any()
    assert empty >= 9
    same = folds.predict(BandedRidge(seed=0))
    p = inference.permutation_p(scoring.correlation(same.y, same.yhat), null)
    assert inference.fdr(p, q=0.05).rejected.sum() >= 650
