"""The analyses of a study: which joint models each has, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from tqdm import tqdm

from latentcortex import inference, scoring
from latentcortex._arrays import FloatArray, IntArray, in_threads
from latentcortex._shelf import unknown
from latentcortex.encoding import Column, Criterion, Encoder, Null, Prediction, significance
from latentcortex.encoding.columns import rejudged
from latentcortex.errors import InputError
from latentcortex.estimators import quiet
from latentcortex.features import Band, Features
from latentcortex.maps import KEYS, Maps
from latentcortex.responses import Responses, Within
from latentcortex.splits import Splits

N_BOOTSTRAP: Final = 200
MASKS: Final = ("mask", "uniqueMask")
"""Statistics that say what is significant."""


# Which models


@dataclass(frozen=True)
class Analysis:
    """A named set of joint models.

    Parameters
    ----------
    name : str
    models : tuple of tuple of str
        The bands of each model.
    """

    name: str
    models: tuple[tuple[str, ...], ...]


def canonical(name: str, bands: Sequence[str]) -> Analysis:
    """Choose the models of a canonical analysis among the bands that there are.

    `latents`: each latent alone (z_c at 80 percent strength, or the nearest). `noise-levels`: z with z_c at
    each strength. `denoising-steps`: z with z_c at each step. `unet-layers`: each layer alone at each step.
    `unet-partition`: the layers of one step jointly.

    Raises
    ------
    InputError
        If the name is not known, or no band that it needs is there.
    """
    if name not in ANALYSES:
        raise unknown("analysis", name, ANALYSES)
    models = tuple(ANALYSES[name](_Atlas(tuple(bands))))
    if not models:
        raise InputError(f"Analysis {name!r} needs bands that are not there; there are {', '.join(bands)}.")
    return Analysis(name, models)


@dataclass(frozen=True)
class _Atlas:
    """The bands that there are, by what they are."""

    names: tuple[str, ...]

    def of(self, kind: str, **entities: int) -> list[str]:
        found = []
        for name in self.names:
            band = Band.parse(name)
            if band.kind == kind and all(band.number(key) == value for key, value in entities.items()):
                found.append(name)
        return found

    def values(self, kind: str, key: str) -> list[int]:
        return sorted({Band.parse(name).number(key) for name in self.of(kind)})

    def strength(self, kind: str) -> int:
        """Choose the strength nearest to 80 percent."""
        return min(self.values(kind, "strength"), key=lambda s: abs(s - 80), default=0)

    def layers(self, step: int) -> list[str]:
        """List the U-Net layers at one step, all of one strength."""
        return self.of("unet", strength=self.strength("unet"), step=step)


def _latents(atlas: _Atlas) -> list[tuple[str, ...]]:
    singles = atlas.of("z") + atlas.of("c") + atlas.of("zc", strength=atlas.strength("zc"), step=100)
    # A store without latents still has bands to look at, one by one.
    return [(name,) for name in singles or atlas.names]


def _noise_levels(atlas: _Atlas) -> list[tuple[str, ...]]:
    levels = [name for s in atlas.values("zc", "strength") for name in atlas.of("zc", strength=s, step=100)]
    return [("z", name) for name in levels if "z" in atlas.names]


def _denoising_steps(atlas: _Atlas) -> list[tuple[str, ...]]:
    stages = [n for k in atlas.values("zc", "step") for n in atlas.of("zc", strength=atlas.strength("zc"), step=k)]
    return [("z", name) for name in stages if "z" in atlas.names]


def _unet_layers(atlas: _Atlas) -> list[tuple[str, ...]]:
    return [(name,) for step in atlas.values("unet", "step") for name in atlas.layers(step)]


def _unet_partition(atlas: _Atlas) -> list[tuple[str, ...]]:
    return [tuple(atlas.layers(step)) for step in atlas.values("unet", "step")]


ANALYSES: Final[dict[str, Callable[[_Atlas], list[tuple[str, ...]]]]] = {
    "latents": _latents,
    "noise-levels": _noise_levels,
    "denoising-steps": _denoising_steps,
    "unet-layers": _unet_layers,
    "unet-partition": _unet_partition,
}


# How they are run


class Scorer(Protocol):
    """What runs an analysis."""

    def score(self, analysis: Analysis) -> Maps:
        """Fit and score every model of the analysis."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Fit on training stimuli, score on averaged responses to test stimuli.

    Parameters
    ----------
    features : Features
    train, test : Responses
    make_estimator : callable
        Makes a fresh estimator for each model.
    criterion : Criterion
    progress : bool
    twin : bool
        Whether a shuffled participant is fitted as well, whose discoveries are counted beside those of this one.
    """

    features: Features
    train: Responses
    test: Responses
    make_estimator: Callable[[], Any]
    criterion: Criterion
    progress: bool = False
    twin: bool = False

    def score(self, analysis: Analysis) -> Maps:
        """Fit and score every model; single-layer models also give each voxel's preferred layer."""
        maps = rejudged(self._scored(analysis), self.criterion)
        return beside(maps, self.shuffled().score(analysis)) if self.twin else maps

    def shuffled(self) -> HeldOut:
        """Make the matched shuffled participant: same voxels, stimuli and settings, responses to other stimuli."""
        sides = [_exchanged(side, seed=self.criterion.seed) for side in (self.train, self.test)]
        return replace(
            self, train=sides[0], test=sides[1], make_estimator=lambda: quiet(self.make_estimator()), twin=False
        )

    def _scored(self, analysis: Analysis) -> Maps:
        keeps = analysis.name == "unet-layers"
        with tqdm(total=len(analysis.models), desc=analysis.name, unit="model", disable=not self.progress) as bar:

            def fitted(bands: tuple[str, ...]) -> tuple[Maps, Prediction | None]:
                encoder, chosen = Encoder(self.make_estimator(), analysis=analysis.name), self.features.only(bands)
                encoder.fit(chosen, self.train)
                held_out = encoder.predict_held_out(chosen, self.test) if keeps else None
                shares = self.criterion.shares
                pieces = encoder.walk(chosen, self.test, shares=shares) if held_out is None else held_out
                maps = encoder.maps_of(pieces, self.test.space, self.criterion)
                bar.update()
                return maps, held_out

            # Models side by side, each on one thread: most of a fit is too small to share.
            done = in_threads(fitted, analysis.models)
        found = [maps for maps, _ in done]
        if keeps:
            singles = zip(analysis.models, (one for _, one in done), strict=True)
            there = {bands[0]: one for bands, one in singles if one is not None}
            found.append(self._preferred(analysis, there, joined(found)))
        return joined(found)

    def _preferred(self, analysis: Analysis, predictions: dict[str, Prediction], singles: Maps) -> Maps:
        columns: list[Column] = []
        for step, names in by_step(analysis.models).items():
            here = {name: predictions[name] for name in names}
            p = np.stack([singles.values(band=name, statistic="p") for name in names])
            columns += preference(here, p, self.criterion, analysis=analysis.name, step=step)
        return Maps.of(self.test.space, columns)


@dataclass(frozen=True, eq=False)
class AcrossFolds:
    """Predict every stimulus from a fit on the other folds; significance by permutations that refit.

    Parameters
    ----------
    features : Features
    responses : Responses
    splits : Splits
    zscore : {"session", "run", "none"}
    make_estimator : callable
    criterion : Criterion
        With permutations.
    progress : bool
    """

    features: Features
    responses: Responses
    splits: Splits
    zscore: Within
    make_estimator: Callable[[], Any]
    criterion: Criterion
    progress: bool = False

    def score(self, analysis: Analysis) -> Maps:
        """Cross-validate every model of the analysis."""
        found = []
        for bands in analysis.models:
            encoder = Encoder(self.make_estimator(), analysis=analysis.name, progress=self.progress)
            chosen = self.features.only(bands)
            how = vars(self.criterion)
            found.append(encoder.cross_validate(chosen, self.responses, self.splits, zscore=self.zscore, **how))
        return rejudged(joined(found), self.criterion)


def _exchanged(responses: Responses, *, seed: int) -> Responses:
    """Exchange the stimuli of averaged responses; neighbours stay together where rows are a time series."""
    length = inference.block_length(responses.data)
    block = length if 1 < length <= len(responses.rows) // 4 else None
    (order,) = inference.exchange(len(responses.rows), n_permutations=1, seed=seed, block=block)
    names = responses.rows["stimulus"].to_numpy()
    return replace(responses, rows=responses.rows.assign(stimulus=names[order]))


def beside(maps: Maps, twin: Maps) -> Maps:
    """Note, in every column of what is significant, how many voxels are so in the shuffled participant."""
    counts = twin.columns.assign(n_twin=(twin.data == 1).sum(0))
    known = {tuple(row[key] for key in KEYS): row["n_twin"] for row in counts.to_dict("records")}
    masks = maps.columns["statistic"].isin(MASKS)
    n_twin = [known[tuple(row[key] for key in KEYS)] for row in maps.columns.to_dict("records")]
    return Maps(maps.data, maps.columns.assign(n_twin=np.where(masks, n_twin, np.nan)), maps.space)


def by_step(models: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
    """Group single-band models of U-Net layers by their denoising step."""
    steps: dict[str, list[str]] = {}
    for (name,) in models:
        band = Band.parse(name)
        if band.kind == "unet":
            steps.setdefault(band.entities["step"], []).append(name)
    return steps


def preference(
    predictions: dict[str, Prediction], p: FloatArray, criterion: Criterion, *, analysis: str, step: str
) -> Iterator[Column]:
    """Find each voxel's preferred layer at one step, and how sure it is.

    Where anything is found is decided by BH over each voxel's Simes p across layers; confidence is the
    fraction of bootstrap draws of test stimuli in which the preferred layer wins again. It does not carry
    the uncertainty of the fit.

    Parameters
    ----------
    predictions : dict
        Band of each layer -> its prediction.
    p : ndarray of shape (n_layers, n_voxels)
        Of each layer's r.
    criterion : Criterion
    analysis, step : str
        For the columns.

    Yields
    ------
    columns
        preferred (number of the layer, nan where not valid), confidence (nan where nothing is found), and p, q,
        mask.
    """
    n_stimuli = len(next(iter(predictions.values())).y)
    r = np.stack([one.r for one in predictions.values()])
    valid = ~np.isnan(r).any(0)
    winner = np.where(valid, np.where(np.isnan(r), -np.inf, r).argmax(0), np.nan)
    about = {"analysis": analysis, "model": f"layers_step-{step}", "band": "", "n_stimuli": n_stimuli}
    null = Null.of(next(iter(predictions.values())), criterion)
    decided = significance(about, inference.simes_p(p), criterion, null=f"Simes over layers; {null}")
    found = np.flatnonzero(decided[-1][0] == 1)
    sure = np.full(len(winner), np.nan)
    sure[found] = _confidence(list(predictions.values()), winner, found, seed=criterion.seed)
    layers = "+".join(Band.parse(name).entities["layer"] for name in predictions)
    yield winner, {**about, "statistic": "preferred", "unit": "layer number", "layers": layers}
    yield sure, {**about, "statistic": "confidence", "unit": "fraction of draws"}
    yield from decided


def _confidence(predictions: Sequence[Prediction], winner: FloatArray, found: IntArray, *, seed: int) -> FloatArray:
    """Count in which fraction of bootstrap draws of stimuli the winners of the voxels `found` win again."""
    n_stimuli = len(predictions[0].y)
    draws = inference.bootstrap_rows(n_stimuli, n_draws=N_BOOTSTRAP, seed=seed)
    counts = np.stack([np.bincount(rows, minlength=n_stimuli) for rows in draws]) / n_stimuli
    r = np.stack([scoring.weighted_correlation(one.y[:, found], one.yhat[:, found], counts) for one in predictions])
    return np.asarray((np.where(np.isnan(r), -np.inf, r).argmax(0) == winner[found]).mean(0))


def joined(found: list[Maps]) -> Maps:
    """Put the columns of several maps of one space side by side."""
    if not found:
        raise InputError("There is nothing to join: no model was run.")
    maps = found[0]
    for more in found[1:]:
        maps = maps.join(more)
    return maps


def ceiling(test: Responses) -> Maps | None:
    """Estimate the noise ceiling of the averaged test responses; None where nothing was repeated."""
    if len(test.rows) == len(test.ids):
        return None
    counts = test.rows.groupby("stimulus", sort=False).size().to_numpy()
    n_averaged = 1 / float(np.mean(1 / counts))
    repeats = test.repeats()
    values = scoring.noise_ceiling(repeats, n_averaged=n_averaged)
    ends = scoring.noise_ceiling_ci(repeats, n_averaged=n_averaged)
    about: dict[str, Any] = {"analysis": "ceiling", "model": "", "band": "", "unit": "fraction of variance"}
    about |= {"n_stimuli": len(counts), "n_averaged": round(n_averaged, 3)}
    columns = zip(("ceiling", "ceilingLow", "ceilingHigh"), (values, *ends), strict=True)
    valid = test.valid()
    return Maps.of(
        test.space, [(np.where(valid, column, np.nan), {**about, "statistic": name}) for name, column in columns]
    )
