"""What is planted in the phantom is found: voxels, shares, the winning latent, the preferred layer.

The expected shares are the mean of the same pipeline over many noise draws; a truth computed from the planted
weights would be circular, and would not know that bands overlap. Where a share is identifiable is what the package
says of one draw, without knowing the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from latentcortex import analyses
from latentcortex.analyses import Analysis, Scorer
from latentcortex.analyses.latents import Latents
from latentcortex.datasets.phantom import Phantom, simulation
from latentcortex.datasets.phantom.truth import Truth
from latentcortex.encoding import Criterion, Encoder, HeldOutSides
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.responses import Responses
from latentcortex.space import Unlocated
from latentcortex.statistics import MIN_RELIABILITY

pytest.importorskip("torch", reason="the phantom's features need the extra [ldm]")

Z, C, ZC = "z", "c", "zc_strength-80_step-100"
STRENGTHS = (20, 40, 60, 80)
SEEDS = (0, 1, 2)
EVERY_SEED = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])]
KINDS = ("shareR2", "uniqueR2")


@dataclass(frozen=True)
class Participant:
    """A simulated participant: truth, and what scores models on simulated trials."""

    truth: pd.DataFrame
    scorer: Scorer

    def score(self, *models: tuple[str, ...], name: str = "latents") -> Maps:
        kind = Latents if name == "latents" else Analysis
        return self.scorer.score(kind(name, models))

    def planted(self, lowest: float) -> np.ndarray:
        """Valid voxels with a planted ceiling of at least `lowest`."""
        return ((self.truth["ceiling"] >= lowest) & (self.truth["state"] == "valid")).to_numpy()


def participant(
    features: Features, seed: int, *, draw: int | None = None, voxels: np.ndarray | None = None, **criterion: object
) -> Participant:
    """Simulate one participant; `draw` changes the noise alone, `voxels` simulates only some."""
    phantom = Phantom(seed=seed)
    truth = phantom.truth("01")
    truth = truth if voxels is None else truth.select_voxels(voxels)
    trials = simulation.schedule(phantom.ids, phantom.n_train, seed=seed, participant="01")
    data = simulation.trials(truth, trials, seed=seed if draw is None else 1000 + draw, participant="01")
    columns = {name: list(trials[name]) for name in ("stimulus", "session", "run")}
    responses = Responses.single_trials(data, Unlocated(data.shape[1]), **columns)
    test_ids = [name for name in phantom.ids if name.startswith("test")]
    train, test = responses.split(test_ids=test_ids)
    how = Criterion(**{"null": "analytic", "seed": seed, "identifiability": False, **criterion})
    return Participant(truth.table, Scorer(features, HeldOutSides(train, test), BandedRidge, how))


@pytest.fixture(scope="module", params=EVERY_SEED)
def simulated(request: pytest.FixtureRequest, phantom_features: Features) -> Participant:
    return participant(phantom_features, request.param)


@pytest.fixture(scope="module")
def latents(simulated: Participant) -> Maps:
    return simulated.score((Z,), (C,), (ZC,))


@pytest.fixture(scope="module")
def noise_levels(simulated: Participant) -> Maps:
    return simulated.scorer.score(analyses.make("noise-levels", simulated.scorer.features.bands))


def found_by(maps: Maps, band: str) -> np.ndarray:
    return maps.values(band=band, statistic="mask") == 1


@pytest.mark.parametrize(("kind", "band"), [("z", Z), ("c", C), ("zc", ZC)])
def test_vertices_with_planted_signal_are_found(simulated, latents, kind, band):
    planted = simulated.planted(0.3) & (simulated.truth["kind"] == kind).to_numpy()
    assert found_by(latents, band)[planted].mean() >= 0.9


@pytest.mark.parametrize("band", [Z, C, ZC])
def test_false_discoveries_are_as_rare_as_promised(simulated, latents, band):
    found = found_by(latents, band)
    null = (simulated.truth["kind"] == "null").to_numpy()
    assert (found & null).sum() / found.sum() <= 0.06


def test_voxels_that_are_nan_or_constant_are_outside_every_family(simulated, latents):
    odd = (simulated.truth["state"] != "valid").to_numpy()
    assert np.isnan(latents.data[odd]).all()
    n_tests = latents.find_columns(statistic="q").columns["n_tests"]
    assert (n_tests == (~odd).sum()).all()


def test_z_wins_in_early_and_c_in_ventral_cortex(simulated, latents):
    r = {band: latents.values(band=band, statistic="r") for band in (Z, C)}
    truth = simulated.truth
    early = (truth["roi"] == "early").to_numpy()
    ventral = ((truth["roi"] == "ventral") & (truth["kind"] == "c")).to_numpy()
    assert np.nanmean(r[Z][early] > r[C][early]) > 0.9
    assert np.nanmean(r[C][ventral] > r[Z][ventral]) > 0.9


def test_share_of_zc_in_the_vertices_that_it_drives_grows_with_strength(simulated, noise_levels):
    driven = (
        simulated.planted(0.3) & ((simulated.truth["kind"] == "zc") & (simulated.truth["roi"] == "ventral")).to_numpy()
    )
    means = []
    for strength in STRENGTHS:
        band = f"zc_strength-{strength}_step-100"
        share = noise_levels.values(model=f"z+{band}", band=band, statistic="shareR2")
        means.append(float(np.nanmedian(share[driven])))
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.05


def test_graded_mixtures_give_graded_shares(simulated, noise_levels):
    truth, planted = simulated.truth, simulated.planted(0.3)
    shares = {b: noise_levels.values(model=f"{Z}+{ZC}", band=b, statistic="shareR2") for b in (Z, ZC)}
    by_level = {}
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        own = planted & (truth["share"] == level).to_numpy()
        z, zc = (np.nansum(shares[b][own]) for b in (Z, ZC))
        by_level[level] = zc / (z + zc)
    assert list(by_level.values()) == sorted(by_level.values())
    assert by_level[0.0] < 0.1
    assert by_level[1.0] > 0.9


@pytest.mark.parametrize("seed", EVERY_SEED)
def test_preferred_layer_is_the_planted_one(phantom_features, seed):
    """Pooled over steps, in vertices found, with a ceiling of at least .4; a fifth of the null is simulated."""
    kind = Phantom(seed=seed).truth("01").table["kind"]
    voxels = np.sort(np.concatenate([np.flatnonzero(kind == "unet"), np.flatnonzero(kind == "null")[::5]]))
    simulated = participant(phantom_features, seed, voxels=voxels)
    scorer = replace(
        simulated.scorer, criterion=replace(simulated.scorer.criterion, n_refits=0)
    )  # which layer is preferred does not depend on half-fits
    maps = scorer.score(analyses.make("unet-layers", scorer.features.bands))
    truth, agree = simulated.truth, []
    for k, step in enumerate((25, 50, 100)):
        preferred = maps.values(model=f"layers_step-{step}", statistic="preferred")
        found = maps.values(model=f"layers_step-{step}", statistic="mask") == 1
        own = simulated.planted(0.4) & (truth["step"] == k).to_numpy() & found
        assert own.sum() > 100
        agree.append(preferred[own] == truth["layer"].to_numpy()[own])
    assert np.concatenate(agree).mean() >= 0.7
    assert min(map(np.mean, agree)) >= 0.6


def shares_of(one: Participant) -> np.ndarray:
    """Shares of z and z_c at strength 80 %, (2, n_voxels)."""
    maps = one.score((Z, ZC), name="noise-levels")
    return np.stack([maps.values(band=band, statistic="shareR2") for band in (Z, ZC)])


def with_signal(seed: int) -> np.ndarray:
    """Number the valid vertices that are driven by z, z_c, both or c; those of the U-Net are not looked at."""
    table = Phantom(seed=seed).truth("01").table
    return np.flatnonzero(table["kind"].isin(["z", "zc", "mixed", "c"]) & (table["state"] == "valid"))


def agreement(features: Features, n_draws: int) -> float:
    """Correlate shares of one noise draw with their mean over others, identifiable or not; strength is 80 %."""
    some = {"voxels": with_signal(0)}
    simulate: Callable[[int], np.ndarray] = lambda draw: shares_of(participant(features, 0, draw=draw, **some))  # noqa: E731
    expected = np.mean([simulate(draw) for draw in range(1, n_draws + 1)], axis=0)
    return float(np.corrcoef(simulate(0).ravel(), expected.ravel())[0, 1])


def test_shares_agree_with_their_expectation(phantom_features):
    assert agreement(phantom_features, 8) >= 0.9


@pytest.mark.slow
def test_shares_agree_with_their_expectation_over_fifty_draws(phantom_features):
    assert agreement(phantom_features, 50) >= 0.9


@dataclass(frozen=True)
class Recovered:
    """Shares of z and z_c in the vertices with signal, by statistic: of one draw, and expected.

    Parameters
    ----------
    found, expected : dict of str to ndarray of shape (2, n_voxels)
    told : dict of str to ndarray of bool, shape (2, n_voxels)
        Where the share can be told, by the first draw alone: a product share where it is identifiable, unique shares
        in vertices where the test found one of them.
    """

    found: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    told: dict[str, np.ndarray]

    @classmethod
    def of(cls, features: Features, seed: int, n_draws: int) -> Recovered:
        def simulate(draw: int) -> Maps:
            some = {"voxels": with_signal(seed), "shares": ("product", "unique"), "identifiability": draw == 0}
            return participant(features, seed, draw=draw, **some).score((Z, ZC), name="noise-levels")

        def both(maps: Maps, statistic: str) -> np.ndarray:
            return np.stack([maps.values(band=band, statistic=statistic) for band in (Z, ZC)])

        first, *others = (simulate(draw) for draw in range(n_draws + 1))
        expected = {kind: np.mean([both(maps, kind) for maps in others], axis=0) for kind in KINDS}
        # nan where the model gives a band no share at all.
        identifiable = np.nan_to_num(both(first, "identifiability"), nan=-1.0) >= MIN_RELIABILITY
        one_is_found = (both(first, "uniqueMask") == 1).any(axis=0)
        told = {"shareR2": identifiable, "uniqueR2": np.broadcast_to(one_is_found, identifiable.shape)}
        return cls({kind: both(first, kind) for kind in KINDS}, expected, told)

    def bias(self, kind: str) -> list[float]:
        """Average the error of each band's share over the vertices where it can be told."""
        error = self.found[kind] - self.expected[kind]
        return [float(one[some].mean()) for one, some in zip(error, self.told[kind], strict=True)]

    def correlation(self, kind: str) -> float:
        some = self.told[kind]
        return float(np.corrcoef(self.found[kind][some], self.expected[kind][some])[0, 1])


DRAWS = [
    pytest.param((0, 6), id="seed 0, 6 draws"),
    *(pytest.param((seed, 30), id=f"seed {seed}, 30 draws", marks=pytest.mark.slow) for seed in SEEDS),
]


@pytest.fixture(scope="module", params=DRAWS)
def recovered(request: pytest.FixtureRequest, phantom_features: Features) -> Recovered:
    return Recovered.of(phantom_features, *request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_shares_that_can_be_told_have_no_bias(recovered, kind):
    assert recovered.told[kind].mean() > 0.4
    assert np.abs(recovered.bias(kind)).max() <= 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_shares_that_can_be_told_are_the_planted_ones(recovered, kind):
    assert recovered.correlation(kind) >= 0.95


@pytest.mark.parametrize("seed", EVERY_SEED)
def test_shares_and_the_offset_sum_to_r2(phantom_features, seed):
    """The offset is what the means' difference costs: they are subtracted from both sides before the split."""
    one = participant(phantom_features.select_bands((Z, ZC)), seed, voxels=with_signal(seed)[::5])
    ((train, test),) = one.scorer.responses.folds(slice(None))
    encoder = Encoder(BandedRidge()).fit(one.scorer.features, train)
    shares = ("product", "unique", "common")
    maps = encoder.score(one.scorer.features, test, shares=shares, identifiability=False, n_refits=0)
    held_out = encoder.predict_held_out(one.scorer.features, test)
    y, yhat = held_out.y.astype(np.float64), held_out.yhat_bands.sum(0, dtype=np.float64) + held_out.offset
    offset = -len(y) * (y.mean(0) - yhat.mean(0)) ** 2 / ((y - y.mean(0)) ** 2).sum(0)
    assert offset.min() < -1e-3  # else it would not matter
    r2 = maps.values(statistic="r2")
    product = sum(maps.values(band=band, statistic="shareR2") for band in (Z, ZC))
    np.testing.assert_allclose(product + offset, r2, atol=1e-6)
    np.testing.assert_allclose(1 - ((y - yhat) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0), r2, atol=1e-6)
    unique = sum(maps.values(band=band, statistic="uniqueR2") for band in (Z, ZC))
    common = maps.values(band=f"{Z}+{ZC}", statistic="commonR2")
    np.testing.assert_allclose(unique + common + offset, r2, atol=1e-6)


def test_truth_of_one_seed_is_always_the_same_and_of_another_is_not():
    first, again, other = (Truth.plant(seed=seed, participant="01") for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first.table, again.table)
    assert not np.array_equal(first.weights["z"], other.weights["z"])


def test_planted_ceilings_are_those_of_the_trials():
    """The noise ceiling estimated from the trials agrees with the planted one on average."""
    from latentcortex import scoring

    phantom = Phantom(seed=0)
    truth = phantom.truth("01")
    voxels = np.flatnonzero((truth.table["kind"] != "null") & (truth.table["state"] == "valid"))[::5]
    truth = truth.select_voxels(voxels)
    trials = simulation.schedule(phantom.ids, phantom.n_train, seed=0, participant="01")
    data = simulation.trials(truth, trials, seed=0, participant="01")
    columns = {name: list(trials[name]) for name in ("stimulus", "session", "run")}
    responses = Responses.single_trials(data, Unlocated(data.shape[1]), **columns)
    _, test = responses.split(test_ids=[name for name in phantom.ids if name.startswith("test")])
    estimated = scoring.noise_ceiling(test.repeats(), n_averaged=3)
    assert abs(np.mean(estimated - truth.table["ceiling"].to_numpy())) < 0.05
