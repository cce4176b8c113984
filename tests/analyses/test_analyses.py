"""Analyses that say how far the others hold: a shuffled participant, more stimuli, other stimuli; and their page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentcortex import Encoder, Features, Responses, analyses, cli, reporting
from latentcortex._files import read_log
from latentcortex.analyses import Analysis, Scorer
from latentcortex.analyses.latents import Latents
from latentcortex.analyses.paired import Pairs
from latentcortex.encoding import Criterion, HeldOutSides, ReadByChunk
from latentcortex.errors import InputError
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.maps import Maps
from latentcortex.space import Unlocated

Z, ZC = "z", "zc_strength-80_step-100"
IDS = [f"s{i:04d}" for i in range(500)]


def trials(data: np.ndarray, ids: list[str], n_repeats: int = 1) -> Responses:
    n = len(ids)
    return Responses.single_trials(
        data.astype(np.float32),
        Unlocated(data.shape[1]),
        stimulus=ids * n_repeats,
        session=[str(k) for k in range(n_repeats) for _ in range(n)],
        run=["1"] * n * n_repeats,
    )


def scorer(bands: dict[str, np.ndarray], y: np.ndarray, n_train: int, **options: object) -> Scorer:
    ids = [f"s{i:05d}" for i in range(len(y))]
    train, test = trials(y, ids).split(test_ids=ids[n_train:], zscore="none")
    features = Features.from_arrays(ids, bands)
    criterion = options.pop("criterion", Criterion(identifiability=False))
    return Scorer(features, HeldOutSides(train, test), BandedRidge, criterion, **options)


@pytest.fixture(scope="module")
def planted() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Ten voxels by each of two bands, and 200 by nothing."""
    rng = np.random.default_rng(0)
    bands = {Z: rng.standard_normal((500, 8)), ZC: rng.standard_normal((500, 8))}
    signal = [x @ rng.standard_normal((8, 10)) / 8**0.5 for x in bands.values()]
    y = np.c_[(*signal, np.zeros((500, 200)))] + 0.7 * rng.standard_normal((500, 220))
    return bands, y


def test_a_shuffled_control_expects_few_of_what_is_found_to_be_false(planted) -> None:
    maps = scorer(*planted, 300, twin=True, criterion=Criterion(shares=("product", "unique"))).score(
        Analysis("noise-levels", ((Z, ZC),))
    )
    assert "identifiability" in set(maps.columns["statistic"])
    facts = maps.find_columns(statistic="mask").columns.iloc[0]
    assert maps.values(statistic="mask").sum() >= 9
    assert facts["n_false"] <= 2
    assert facts["n_false"] == pytest.approx(facts["n_control"] * facts["null_fraction"], rel=0.2, abs=0.1)
    assert facts["n_false_low"] <= facts["n_false"] <= facts["n_false_high"]
    assert (
        maps.find_columns(statistic="uniqueMask").columns["n_false"].isna().all()
    )  # tested where a control finds nothing
    assert maps.find_columns(statistic="r").columns["n_false"].isna().all()


def test_the_shuffled_participant_has_the_same_stimuli_and_other_responses(planted) -> None:
    own = scorer(*planted, 300)
    twin = own.shuffled()
    ((of_own,), (of_twin,)) = (one.responses.folds(slice(None)) for one in (own, twin))
    for before, after in zip(of_own, of_twin, strict=True):
        assert sorted(before.ids) == sorted(after.ids)
        np.testing.assert_array_equal(before.data, after.data)
        assert np.mean(np.array(before.ids) == np.array(after.ids)) < 0.05


def test_latents_are_compared_in_pairs(planted) -> None:
    own = scorer(*planted, 300)
    ((train, test),) = own.responses.folds(slice(None))
    maps = own.score(Latents("latents", ((Z,), (ZC,))))
    level = {}
    for band in (Z, ZC):  # R² without what a shift of the mean takes
        one = Encoder(BandedRidge()).fit(own.features.select_bands([band]), train)
        left = test.data - one.predict(own.features.select_bands([band]), test.ids)
        level[band] = 1 - left.var(0) / test.data.var(0)
    pair = maps.find_columns(model=Z, band=ZC)
    np.testing.assert_allclose(pair.values(statistic="differenceR2"), level[Z] - level[ZC], atol=1e-5)
    found = pair.values(statistic="differenceMask") == 1
    assert found[:20].sum() >= 18
    assert found[20:].sum() <= 2
    assert (pair.values(statistic="differenceR2")[:10][found[:10]] > 0).all()
    assert (pair.values(statistic="differenceR2")[10:20][found[10:20]] < 0).all()
    np.testing.assert_array_equal(found, pair.values(statistic="differenceQ") <= 0.05)
    passed = (pair.values(statistic="differenceP")[20:] <= 0.05).mean()
    assert passed <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5
    assert "the difference between z and" in pair.find_columns(statistic="differenceQ").columns["family"].iloc[0]
    assert not len(own.score(Analysis("other", ((Z,), (ZC,)))).find_columns(statistic="differenceQ").columns)


def test_every_analysis_of_the_shelf_heads_its_section_with_a_title_of_its_own() -> None:
    kinds = [analyses.NoiseCeiling, *map(analyses.SHELF.find, analyses.SHELF)]
    titles = [kind.title for kind in kinds]
    assert all(titles)
    assert len(set(titles)) == len(kinds) == 8


class Forgetful(Analysis):
    def plan(self, scorer: Scorer) -> list[analyses.ModelGroup]:
        return super().plan(scorer)[1:]


def test_a_plan_that_leaves_a_model_out_or_compares_joint_models_is_refused(planted) -> None:
    with pytest.raises(InputError, match="Analysis 'mine' plans c; expected each of its models once: z, c"):
        scorer({"z": planted[0][Z], "c": planted[0][ZC]}, planted[1], 300).score(Forgetful("mine", (("z",), ("c",))))
    with pytest.raises(InputError, match=r"Models of one band each are compared; got z\+c"):
        analyses.ModelGroup((("z", "c"), ("z",)), Pairs())


def test_half_fits_of_some_voxels_are_those_of_all(planted) -> None:
    own = scorer(*planted, 300)
    ((train, test),) = own.responses.folds(slice(None))
    halves = analyses.HalfFits(analyses.Halves(own.features, train, test.ids, BandedRidge, 0), train)
    among = np.array([1, 3, 11, 12, 40, 100, 219])
    wanted = np.array([3, 11, 40, 219])
    some = halves.select_voxels(among)
    for k in (0, 1):
        np.testing.assert_allclose(some(k, np.searchsorted(among, wanted)), halves(k, wanted), rtol=1e-4, atol=1e-6)
    assert not np.allclose(halves(0, wanted), halves(1, wanted))


def test_maps_of_an_analysis_are_judged_together_where_the_family_is_hierarchical(planted) -> None:
    criterion = Criterion(family="hierarchical", shares=("unique",), identifiability=False)
    analysis = Latents("latents", ((Z,), (ZC,)))
    together = scorer(*planted, 300, criterion=criterion).score(analysis)
    apart = scorer(*planted, 300).score(analysis)
    for band in (Z, ZC):
        q = {name: maps.values(band=band, statistic="q") for name, maps in (("t", together), ("a", apart))}
        assert (q["t"] >= q["a"] * (1 - 1e-6)).all()
        np.testing.assert_array_equal(together.values(band=band, statistic="mask"), q["t"] <= 0.05)
    families = set(together.find_columns(statistic="mask").columns["family"])
    assert families == {"latents: 2 of 2 maps were chosen first, this one with them: its voxels are tested at 0.05"}


def test_a_gain_that_only_few_stimuli_give_falls_to_nothing() -> None:
    """z_c is 10 functions of the 100 dimensions of z, by which the responses go: nothing is unique."""
    rng = np.random.default_rng(1)
    z = rng.standard_normal((1800, 100))
    zc = z @ rng.standard_normal((100, 10)) / 10
    y = zc @ rng.standard_normal((10, 60)) / 10**0.5 + 0.7 * rng.standard_normal((1800, 60))
    maps = analyses.make("learning-curve", [Z, ZC]).maps(scorer({Z: z, ZC: zc}, y, 1600))
    own = maps.find_columns(band=ZC).columns.set_index("statistic")
    ends = ["uniqueR2Limit", "uniqueR2LimitLow", "uniqueR2LimitHigh"]
    means = own["mean"].drop(ends)
    assert list(own["n_fitted"].dropna()) == [200, 336, 566, 951, 1600]
    assert means.iloc[0] > 0.1
    assert means.iloc[-1] < means.iloc[0] / 4
    assert own.loc["uniqueR2Limit", "mean"] < means.iloc[-1]
    assert abs(own.loc["uniqueR2Limit", "mean"]) < 0.02
    assert own.loc["uniqueR2Limit", "low"] < 0 < own.loc["uniqueR2Limit", "high"] < means.iloc[-1] + 0.02
    assert (own["low"].drop(ends) < means).all()
    assert (own["high"].drop(ends) > means).all()


def test_shares_of_a_learning_curve_do_not_change_with_the_baseline_of_the_test_set() -> None:
    """They are of R² about the means, as unique shares are; with the offset they fell from .33 to 0."""
    rng = np.random.default_rng(4)
    z, zc = rng.standard_normal((2, 500, 20))
    y = sum(band @ rng.standard_normal((20, 40)) / 20**0.5 for band in (z, zc)) + rng.standard_normal((500, 40))
    gains = []
    for shift in (0.0, 1.0):
        bands = {name: np.r_[band[:300], band[300:] + shift] for name, band in ((Z, z), (ZC, zc))}
        own = scorer(bands, np.r_[y[:300], y[300:] + 2 * shift], 300)
        columns = analyses.make("learning-curve", [Z, ZC]).maps(own).find_columns(band=Z).columns.set_index("statistic")
        gains.append(columns.loc["uniqueR2N300", ["mean", "low", "high"]].to_numpy(dtype=float))
    assert gains[0][1] > 0.1
    np.testing.assert_allclose(gains[0], gains[1], atol=0.01)


def test_a_learning_curve_needs_stimuli() -> None:
    rng = np.random.default_rng(2)
    few = {Z: rng.standard_normal((60, 3)), ZC: rng.standard_normal((60, 3))}
    with pytest.raises(InputError, match="needs at least 64 training stimuli; there are 40"):
        analyses.make("learning-curve", [Z, ZC]).maps(scorer(few, rng.standard_normal((60, 5)), 40))


def clumped() -> tuple[Features, Responses, np.ndarray]:
    """40 clumps of stimuli; voxels answer to what is common to a clump, which other clumps do not teach."""
    rng = np.random.default_rng(3)
    clump = np.repeat(np.arange(40), 10)
    z = 4 * rng.standard_normal((40, 12))[clump] + 0.3 * rng.standard_normal((400, 12))
    own = rng.standard_normal((40, 50))[clump]
    ids = [f"s{i:04d}" for i in range(400)]
    y = np.concatenate([own + 0.3 * rng.standard_normal((400, 50)) for _ in range(2)])
    return Features.from_arrays(ids, {Z: z}), trials(y, ids, 2), clump


def test_scores_fall_where_test_stimuli_are_unlike_those_that_were_fitted() -> None:
    from latentcortex.splits import coordinates

    features, responses, clump = clumped()
    places = coordinates(features.gram(Z, features.ids, features.ids, fit_on=features.ids))
    splits, clusters = analyses.profile_splits(features.ids, features.ids, places, n_clusters=40, seed=0)
    assert len({len(train) for ((train, _),) in splits.values()}) == 1
    for ((train, test),) in splits.values():
        assert not set(train) & set(test)
    of_clump = dict(zip(features.ids, clump, strict=True))
    ((train, test),) = splits["cluster"]
    assert not {of_clump[name] for name in train} & {of_clump[name] for name in test}
    maps = analyses.profile(
        Analysis("generalisation", ((Z,),)),
        features,
        {kind: ReadByChunk.of(responses, split, "session") for kind, split in splits.items()},
        BandedRidge,
        criterion=Criterion(),
        clusters=clusters,
    )
    r = maps.find_columns(statistic="r").columns.set_index("analysis")
    assert r.loc["generalisation-random", "mean"] > 0.4
    assert abs(r.loc["generalisation-cluster", "mean"]) < 0.15
    assert (r["low"] < r["mean"]).all()
    assert (r["mean"] < r["high"]).all()
    null = maps.find_columns(analysis="generalisation-cluster", statistic="p").columns["null"].iloc[0]
    assert null == "255 flips of signs of whole clusters"


STUDY = """
[dataset]
name = "folder"
root = "data"

[extractor]
name = "pixels"
size = 8

[splits]
n_clusters = 25

[analyses]
run = ["latents", "generalisation"]

[inference]
twin = true
"""


def test_a_study_reports_its_twin_and_its_profile(folder_study: Path, tmp_path: Path) -> None:
    folder_study.write_text(STUDY)
    assert cli.main(["run", str(folder_study), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "expected false" in page
    assert "times the fraction of voxels without a relation" in page
    assert "Scores on stimuli that are unlike the fitted ones" in page
    entries, _ = read_log(tmp_path / "out" / "logs" / "latentcortex.jsonl")
    assert {entry.get("participant") for entry in entries if "voxels" in entry["what"]} == {"01"}
    widened = [entry for entry in entries if "widen `alphas`" in entry["what"]]
    assert widened
    assert all({"analysis", "model", "participant"} <= entry.keys() for entry in widened)
    (row,) = [
        r for r in json.loads((tmp_path / "out" / "summary.json").read_text())["results"] if r["n_false"] is not None
    ]
    assert 0 <= row["n_false"] <= row["n_false_high"] <= 3 <= 8 <= row["n_significant"]
    assert (tmp_path / "out" / "sub-01" / "figures" / "generalisation.png").is_file()


def joint_maps() -> Maps:
    """A joint model of two bands in four voxels: significant in three, of which two cannot be told."""
    about = {"analysis": "noise-levels", "model": f"{Z}+{ZC}", "n_stimuli": 9}
    columns = []
    for statistic, band, values, more in (
        ("r", "", [0.5, 0.6, 0.7, 0.0], {}),
        ("p", "", [0.01, 0.01, 0.01, 0.9], {"null": "independent Gaussian vectors"}),
        ("mask", "", [1, 1, 1, 0], {}),
        ("shareR2", Z, [0.2, -0.1, 0.3, -0.5], {"stability": 0.8}),
        ("shareR2", ZC, [0.1, 0.4, 0.1, 0.2], {"stability": np.nan}),
        ("excessR2", "", [0.1, -0.1, 0.2, 0.3], {}),
        ("identifiability", Z, [0.9, 0.1, np.nan, 0.1], {"overlap": 0.7}),
        ("identifiability", ZC, [0.1, 0.2, np.nan, 0.1], {"overlap": 0.7}),
    ):
        facts = {**about, "band": band, "statistic": statistic, "unit": "", **more}
        columns.append((np.array(values, dtype=float), facts))
    return Maps.build(Unlocated(4), columns)


def test_the_honesty_panel_counts_among_significant_voxels() -> None:
    (entry,) = reporting.honesty(joint_maps())
    assert entry == {
        "analysis": "noise-levels",
        "model": f"{Z}+{ZC}",
        "n_significant": 3,
        "suppressed": 2,
        "n_unidentifiable": 2,
        "null": "independent Gaussian vectors",
        "bands": [
            {"band": "z", "n_negative": 1, "stability": 0.8, "overlap": 0.7},
            {"band": "z_c, strength 80 %", "n_negative": 0, "stability": None, "overlap": 0.7},
        ],
    }
    without = joint_maps()
    kept = ~without.columns["statistic"].isin(["excessR2", "identifiability"]).to_numpy()
    bare = Maps(without.data[:, kept], pd.DataFrame(without.columns[kept]).reset_index(drop=True), without.space)
    (entry,) = reporting.honesty(bare)
    assert entry["suppressed"] is None
    assert entry["n_unidentifiable"] is None
    assert entry["bands"][0]["overlap"] is None
