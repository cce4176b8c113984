"""What the default chooses predicts as well as what exhaustive folds, or himalaya, choose; and where GCV would not.

Ten seeds of each case; the paired interval of the difference of mean held-out R² must exclude -.001.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from _paths import DATA
from scipy import stats

from latentcortex import scoring
from latentcortex.estimators import make
from latentcortex.estimators.banded_ridge import BandedRidge

pytestmark = pytest.mark.slow

DIGITS = DATA / "digits69"
N_FIT, N_TEST, N_VOXELS, SEEDS = 600, 400, 200, range(10)
EXHAUSTIVE = np.stack([np.linspace(0, 1, 11), 1 - np.linspace(0, 1, 11)], axis=1)


@dataclass
class Data:
    """Two bands and responses; the first `n_fit` rows are fitted on."""

    bands: dict[str, np.ndarray]
    y: np.ndarray
    n_fit: int = N_FIT
    weights: np.ndarray | None = None
    groups: list[str] | None = None
    test: np.ndarray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if not len(self.test):
            self.test = np.arange(self.n_fit, len(self.y))

    def held_out(self, model) -> float:
        fit = np.setdiff1d(np.arange(len(self.y)), self.test)[: self.n_fit]
        train = {b: x[fit] for b, x in self.bands.items()}
        model.fit(train, self.y[fit], sample_weight=self.weights, groups=self.groups)
        predicted = model.predict({b: x[self.test] for b, x in self.bands.items()})
        return float(np.nanmean(scoring.r2(self.y[self.test], predicted)))


def features(rng: np.random.Generator, n: int, p: int, decay: float) -> dict[str, np.ndarray]:
    """Two bands of `p` dimensions whose variance falls with `decay`."""
    spectrum = 1 / np.sqrt(1 + np.arange(p)) ** decay
    return {b: (rng.standard_normal((n, p)) * spectrum).astype(np.float32) for b in "ab"}


def signal_of(rng: np.random.Generator, bands: dict[str, np.ndarray]) -> np.ndarray:
    """Voxels that follow the bands in all proportions, each with variance 1."""
    parts = [x @ rng.standard_normal((x.shape[1], N_VOXELS)) for x in bands.values()]
    share = rng.choice([0, 0.1, 0.3, 0.5, 0.7, 0.9, 1], N_VOXELS)
    return sum(np.sqrt(s) * v / v.std(0) for s, v in zip((share, 1 - share), parts, strict=True))


def simulated(seed: int, *, p: int, decay: float, noise: float, repeats: int = 1) -> Data:
    """With `repeats`, fitted rows are averages of 1 to so many trials, and test rows of all of them."""
    rng = np.random.default_rng(seed)
    bands = features(rng, N_FIT + N_TEST, p, decay)
    counts = np.concatenate([rng.integers(1, repeats + 1, N_FIT), np.full(N_TEST, repeats)])
    noisy = noise * rng.standard_normal((N_FIT + N_TEST, N_VOXELS)) / np.sqrt(counts)[:, None]
    y = (signal_of(rng, bands) + noisy).astype(np.float32)
    return Data(bands, y, weights=counts[:N_FIT].astype(float) if repeats > 1 else None)


def is_as_good(ours: np.ndarray, theirs: np.ndarray, name: str) -> None:
    difference = ours - theirs
    low = difference.mean() - stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
    print(f"{name}: {difference.mean():+.5f}, interval from {low:+.5f}")
    assert low > -1e-3, (name, difference.mean(), low)


def others() -> dict[str, object]:
    exhaustive = BandedRidge(selection="kfold", mixtures=EXHAUSTIVE, refine=False)
    return {"exhaustive folds": exhaustive, "himalaya": make("himalaya")}


@pytest.mark.parametrize("p", [200, 500])
@pytest.mark.parametrize("decay", [0.0, 1.0])
@pytest.mark.parametrize("noise", [0.7, 2.0])
def test_gcv_chooses_as_well_as_exhaustive_folds_and_as_himalaya(p: int, decay: float, noise: float) -> None:
    data = [simulated(seed, p=p, decay=decay, noise=noise) for seed in SEEDS]
    ours = np.array([one.held_out(BandedRidge()) for one in data])
    for name, other in others().items():
        is_as_good(ours, np.array([one.held_out(other) for one in data]), name)


@pytest.mark.parametrize("p", [200, 500])
def test_so_it_does_where_images_were_shown_unequally_often(p: int) -> None:
    data = [simulated(seed, p=p, decay=1.0, noise=2.0, repeats=5) for seed in SEEDS]
    ours = np.array([one.held_out(BandedRidge()) for one in data])
    for name, other in others().items():
        is_as_good(ours, np.array([one.held_out(other) for one in data]), name)


@pytest.mark.skipif(not DIGITS.is_dir(), reason="the recording digits69 is not shipped with the project")
def test_so_it_does_on_the_recording_of_digits() -> None:
    """Ten halvings into 70 fitted and the others; pixels and their blurred form are the bands."""
    from scipy.ndimage import gaussian_filter

    from latentcortex.datasets.folder import Folder

    folder = Folder(str(DIGITS))
    stimuli, responses = folder.stimuli(), folder.responses("01").averaged()
    pixels = stimuli.images(responses.ids).mean(-1).astype(np.float32)
    blurred = np.stack([gaussian_filter(image, image.shape[0] / 12) for image in pixels])
    bands = {"a": pixels.reshape(len(pixels), -1), "b": blurred.reshape(len(pixels), -1)}
    halves = [np.random.default_rng(seed).permutation(len(pixels))[70:] for seed in SEEDS]
    data = [Data(bands, responses.data, n_fit=70, test=np.sort(half)) for half in halves]
    ours = np.array([one.held_out(BandedRidge()) for one in data])
    for name, other in others().items():
        is_as_good(ours, np.array([one.held_out(other) for one in data]), name)


# Where generalised cross-validation alone goes wrong, and what the default does there


def few_rows(seed: int) -> Data:
    """Hardly more rows than columns."""
    rng = np.random.default_rng(seed)
    bands = features(rng, 30 + N_TEST, 10, 0.0)
    return Data(bands, signal_of(rng, bands) + rng.standard_normal((30 + N_TEST, N_VOXELS)), n_fit=30)


def repeated_rows(seed: int) -> Data:
    """Each fitted image shown twice, both times with the same noise: half of it belongs to the image."""
    rng = np.random.default_rng(seed)
    once = features(rng, 200 + N_TEST, 300, 0.0)
    y = signal_of(rng, once) + 2 * rng.standard_normal((200 + N_TEST, N_VOXELS))
    again = {b: x[:200] + 0.02 * rng.standard_normal((200, 300)) for b, x in once.items()}
    bands = {b: np.concatenate([again[b], x]).astype(np.float32) for b, x in once.items()}
    repeated = y[:200] + 0.2 * rng.standard_normal((200, N_VOXELS))
    return Data(bands, np.concatenate([repeated, y]), n_fit=400)


def autocorrelated_rows(seed: int) -> Data:
    """Features and noise that drift, as in a film."""
    rng = np.random.default_rng(seed)
    n = 400 + N_TEST
    smooth = stats.norm.pdf(np.arange(-6, 7), scale=2)

    def drifting(width: int) -> np.ndarray:
        white = rng.standard_normal((n, width))
        slow = np.apply_along_axis(np.convolve, 0, white, smooth, mode="same")
        return slow / slow.std(0)

    bands = {b: drifting(30).astype(np.float32) for b in "ab"}
    return Data(bands, signal_of(rng, bands) + 2 * drifting(N_VOXELS), n_fit=400)


@pytest.mark.parametrize("trap", [few_rows, repeated_rows, autocorrelated_rows])
def test_the_default_avoids_what_fools_gcv(trap) -> None:
    data = [trap(seed) for seed in SEEDS]
    gcv = np.array([one.held_out(BandedRidge(selection="gcv")) for one in data])
    default = np.array([one.held_out(BandedRidge()) for one in data])
    difference = default - gcv
    low = difference.mean() - stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
    print(f"{trap.__name__}: GCV {gcv.mean():+.4f}, default {default.mean():+.4f}, interval from {low:+.5f}")
    assert low > 0
