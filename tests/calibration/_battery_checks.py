"""Battery of calibration: designs in which trials are not as independent as they look, and what a run lets through.

Part of the battery: see `_battery.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from _battery import Finding, found, quiet
from PIL import Image

from latentcortex import BandedRidge, Encoder, Features, Responses, checking, scoring
from latentcortex.encoding import Criterion, Folds
from latentcortex.errors import InputError
from latentcortex.space import Unlocated
from latentcortex.splits import Splits
from latentcortex.study import Study
from latentcortex.study.data import StudyData

N_RUNS, N_TRIALS, BLOCK = 16, 24, 6
"""Runs, trials of a run, and like stimuli that follow each other."""


def held(rates: list[float]) -> dict[str, Any]:
    """Bound a rate of voxels without signal: 5 %, or whatever single maps could show where there are few."""
    return {"most": 0.055, "slack": 3.0} if len(rates) > 4 else {"most": 0.1}


@dataclass(frozen=True, eq=False)
class Session:
    """Trials in their order, one stimulus each.

    Parameters
    ----------
    features : ndarray of shape (n_trials, n_dims)
    y : ndarray of shape (n_trials, n_voxels)
    run : ndarray of int, shape (n_trials,)
    """

    features: np.ndarray
    y: np.ndarray
    run: np.ndarray

    @property
    def ids(self) -> list[str]:
        return [f"t{i:04d}" for i in range(len(self.y))]

    @property
    def responses(self) -> Responses:
        run = [str(k) for k in self.run]
        space, one = Unlocated(self.y.shape[1]), ["1"] * len(run)
        return Responses.single_trials(self.y.astype(np.float32), space, stimulus=self.ids, session=one, run=run)

    @property
    def bands(self) -> Features:
        return Features.from_arrays(self.ids, {"x": self.features})


def drifting(seed: int, *, blocks: bool = True, drift: float = 0.7, n_voxels: int = 200) -> Session:
    """Show like stimuli in mini-blocks, or in random order, to voxels that drift within runs and see nothing."""
    rng = np.random.default_rng([3, seed])
    n = N_RUNS * N_TRIALS
    kind = np.repeat(np.arange(n // BLOCK) % 12, BLOCK)
    if not blocks:
        kind = rng.permutation(kind)
    features = rng.standard_normal((12, 30))[kind] + 0.7 * rng.standard_normal((n, 30))
    y = rng.standard_normal((N_RUNS, N_TRIALS, n_voxels))
    for trial in range(1, N_TRIALS):
        y[:, trial] = drift * y[:, trial - 1] + np.sqrt(1 - drift**2) * y[:, trial]
    y = y.reshape(n, n_voxels) + rng.standard_normal((n, n_voxels))
    return Session(features, y, np.repeat(np.arange(N_RUNS), N_TRIALS))


def held_out(shown: Session, test: np.ndarray, **criterion: Any) -> np.ndarray:
    """Test the prediction of some trials from the others: p of every voxel."""
    train, others = shown.responses.split(test_ids=list(np.array(shown.ids)[test]), zscore="run")
    encoder = Encoder(BandedRidge(seed=0)).fit(shown.bands, train)
    return np.asarray(encoder.score(shown.bands, others, **criterion).values(statistic="p"))


def across(shown: Session, n_permutations: int, **how: Any) -> np.ndarray:
    """Test predictions pooled over four folds, of trials or as `how` groups them."""
    estimator = BandedRidge(selection="gcv", alphas=np.logspace(0, 6, 7), seed=0)
    maps = Encoder(estimator).cross_validate(
        shown.bands,
        shown.responses,
        Splits.k_fold(shown.ids, 4, seed=0, **how),
        zscore="run",
        n_permutations=n_permutations,
    )
    return np.asarray(maps.values(statistic="p"))


def refused(shown: Session, test: np.ndarray) -> bool:
    """Tell whether the linter refuses a design for its mini-blocks."""
    names = np.array(shown.ids)
    splits = Splits.held_out(names[~test].tolist(), names[test].tolist())
    options: dict[str, Any] = {"features": shown.bands, "models": [("x",)], "zscore": "run"}
    design = checking.StudyDesign(shown.responses, splits, Criterion(), **options)
    return "mini-blocks" in {one.rule for one in checking.findings(design, grave=True)}


def scattered(shown: Session, seed: int) -> np.ndarray:
    """Choose a quarter of all trials, from all runs."""
    n = len(shown.y)
    return np.isin(np.arange(n), np.random.default_rng([4, seed]).permutation(n)[: n // 4])


def mini_blocks(n: int) -> list[Finding]:
    """Predict voxels that drift and see nothing from mini-blocks of like stimuli."""
    rates: dict[str, list[float]] = {"trials": [], "order": [], "folds of trials": [], "folds of runs": []}
    seen: dict[str, list[bool]] = {"trials": [], "runs": [], "order": [], "steady": []}
    with quiet():
        for run in range(n):
            shown = drifting(run)
            orderly, steady = drifting(run, blocks=False), drifting(run, drift=0.0)
            test, whole = scattered(shown, run), shown.run >= 12
            rates["trials"].append(float((held_out(shown, test) <= 0.05).mean()))
            rates["order"].append(float((held_out(orderly, test) <= 0.05).mean()))
            seen["trials"].append(refused(shown, test))
            seen["runs"].append(refused(shown, whole))
            seen["order"].append(refused(orderly, test))
            seen["steady"].append(refused(steady, test))
        for run in range(max(n // 4, 1)):
            shown = drifting(run, n_voxels=400)
            runs = {"groups": [str(k) for k in shown.run], "unit": "run"}
            rates["folds of runs"].append(float((across(shown, 19, **runs) <= 0.05).mean()))
            rates["folds of trials"].append(float((across(shown, 19) <= 0.05).mean()))
    setting, what = "mini-blocks of 6 like stimuli in 16 runs, voxels that drift", "voxels without signal of p ≤ .05"
    naive: dict[str, Any] = {"least": 0.06, "naive": True}
    kept: dict[str, Any] = {"least": 1.0, "most": 1.0}
    none: dict[str, Any] = {"least": 0.0, "most": 0.0}
    return [
        found("B3", f"{what}, test trials from all runs", setting, rates["trials"], least=0.15, naive=True),
        found("B3", f"{what}, folds of trials", setting, rates["folds of trials"], **naive),
        found(
            "B3",
            f"{what}, folds of whole runs, flipped",
            setting,
            rates["folds of runs"],
            **held(rates["folds of runs"]),
        ),
        found("B3", f"{what}, the same stimuli in random order", setting, rates["order"], **held(rates["order"])),
        found("B3", "refused by check, test trials from all runs", setting, seen["trials"], **kept),
        found("B3", "refused by check, whole runs held out", setting, seen["runs"], **none),
        found("B3", "refused by check, random order", setting, seen["order"], **none),
        found("B3", "refused by check, no drift", setting, seen["steady"], **none),
    ]


# Pictures under many ids


TRIALS = """
[dataset]
name = "folder"
root = "data"
participants = ["01"]
[splits]
cross_validation = 4
[extractor]
name = "pixels"
size = 8
[estimator]
name = "banded_ridge"
selection = "gcv"
[analyses]
run = ["latents"]
"""


def write_jittered(folder: Path, seed: int, *, n_pictures: int = 20, n_trials: int = 6, n_voxels: int = 150) -> Study:
    """Show 20 pictures 6 times, each trial under an id of its own with 2 % noise on its pixels.

    Voxels tell the pictures apart, for reasons that have nothing to do with what is in them.
    """
    rng = np.random.default_rng([15, seed])
    data = folder / "data"
    (data / "stimuli").mkdir(parents=True)
    small = rng.integers(0, 256, (n_pictures, 5, 5, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((48, 48), Image.Resampling.BICUBIC), dtype=float) for one in small]
    picture = rng.permutation(np.repeat(np.arange(n_pictures), n_trials))
    ids = [f"t{i:03d}" for i in range(len(picture))]
    for name, k in zip(ids, picture, strict=True):
        noisy = large[k] + 0.02 * 255 * rng.standard_normal(large[k].shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data / "stimuli" / f"{name}.png")
    table = pd.DataFrame({"stimulus_id": ids, "stim_file": [f"{name}.png" for name in ids]})
    table.to_csv(data / "stimuli.tsv", sep="\t", index=False)
    half = ["01" if i < len(ids) // 2 else "02" for i in range(len(ids))]
    split = ["test" if i % 4 == 0 else "train" for i in range(len(ids))]
    trials = pd.DataFrame({"stimulus_id": ids, "session": half, "run": "01", "split": split})
    trials.to_csv(data / "trials.tsv", sep="\t", index=False)
    y = rng.standard_normal((n_pictures, n_voxels))[picture] + rng.standard_normal((len(ids), n_voxels))
    np.save(data / "responses.npy", y.astype(np.float32))
    (folder / "study.toml").write_text(TRIALS)
    return Study.read(folder / "study.toml")


def jittered(n: int) -> list[Finding]:
    """Cross-validate and hold out trials of few pictures under many ids."""
    grouped, naive, alike, stopped = [], [], [], []
    with quiet(), TemporaryDirectory() as name:
        for run in range(n):
            folder = Path(name) / str(run)
            study = write_jittered(folder, run)
            data = StudyData(study, folder / "out", progress=False)
            features, responses = data.features, data.all_voxels("01")
            splits = data.splits("01")
            alike.append(float(len(set(splits.groups))))
            encoder = Encoder(study.estimator())
            options: dict[str, Any] = {"zscore": "session", "n_permutations": 19}
            for rates, folds in ((grouped, splits), (naive, Splits.k_fold(splits.ids, 4, seed=0))):
                maps = encoder.cross_validate(features, responses, folds, **options)
                rates.append(float((maps.values(statistic="p") <= 0.05).mean()))
            (folder / "study.toml").write_text(TRIALS.replace("cross_validation = 4", ""))
            try:
                Study.read(folder / "study.toml").run(folder / "held-out", progress=False)
                stopped.append(False)
            except InputError as error:
                stopped.append("near-duplicate" in str(error))
    setting, what = "20 pictures, 6 trials each under ids of their own, 2 % noise on pixels", "voxels of p ≤ .05"
    return [
        found("C15", f"{what}, folds and permutations of a study", setting, grouped, **held(grouped)),
        found("C15", f"{what}, folds of ids", setting, naive, least=0.3, naive=True),
        found("C15", "groups that folds keep together", setting, alike, least=20, most=20),
        found("C15", "runs with such ids on both sides that stop", setting, stopped, least=1.0, most=1.0),
    ]


# Categories


def categories(n: int) -> list[Finding]:
    """Fit eight categories in one-hot columns: many different stimuli have equal rows."""
    gained: dict[str, list[float]] = {"auto": [], "grouped": []}
    with quiet():
        for run in range(n):
            rng = np.random.default_rng([16, run])
            kind = rng.integers(0, 8, 500)
            x = np.eye(8)[kind]
            y = (x - x.mean(0)) @ rng.standard_normal((8, 100)) + 0.8 * rng.standard_normal((500, 100))
            r2 = {}
            for name, options in (("auto", {}), ("gcv", {"selection": "gcv"}), ("grouped", {"selection": "kfold"})):
                groups = [str(k) for k in kind[:300]] if name == "grouped" else None
                model = BandedRidge(seed=0, **options).fit(x[:300], y[:300], groups=groups)
                r2[name] = float(scoring.r2(y[300:], model.predict(x[300:])).mean())
            for name, values in gained.items():
                values.append(r2[name] - r2["gcv"])
    setting, what = "8 categories in one-hot columns, 300 stimuli", "R² less that of generalised cross-validation"
    return [
        found("C16", f"{what}, selection 'auto'", setting, gained["auto"], least=-0.01),
        found("C16", f"{what}, categories kept together", setting, gained["grouped"], most=-0.05, naive=True),
    ]


# Baselines of runs


def baselines(n: int) -> list[Finding]:
    """Hold out whole runs whose baselines differ by two standard deviations; all voxels see the features."""
    medians: dict[str, list[float]] = {"run": [], "none": []}
    told = []
    with quiet():
        for seed in range(n):
            rng = np.random.default_rng([17, seed])
            x, run = rng.standard_normal((240, 10)), np.repeat(np.arange(12), 20)
            y = x @ rng.standard_normal((10, 100)) / 10**0.5 + 0.7 * rng.standard_normal((240, 100))
            shown = Session(x, y + 2 * rng.standard_normal((12, 100))[run], run)
            splits = Splits.k_fold(shown.ids, 12, groups=[str(k) for k in run], unit="run", seed=0)
            for zscore, values in medians.items():
                folds = Folds.of(shown.bands, shown.responses, splits, zscore)
                values.append(float(np.median(folds.predict(BandedRidge(seed=0)).r)))
            design = checking.StudyDesign(shown.responses, splits, Criterion(), unit="run", clusters=splits.groups)
            told.append("shifted-baseline" in {one.rule for one in checking.findings(design)})
    setting = "12 runs held out one by one, baselines that differ by 2 SD, signal of r = .8"
    return [
        found("C17", "median r, runs z-scored each", setting, medians["run"], least=0.7),
        found("C17", "median r, responses as they are", setting, medians["none"], most=0.5, naive=True),
        found("C17", "told by check", setting, told, least=1.0, most=1.0),
    ]


BATTERY = {
    "baselines": (baselines, 2, 20),
    "mini_blocks": (mini_blocks, 3, 36),
    "jittered": (jittered, 1, 12),
    "categories": (categories, 2, 20),
}
"""Part -> what measures it, runs by default, and in full."""
