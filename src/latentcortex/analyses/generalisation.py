"""How scores fall from test stimuli like the fitted ones to test stimuli that are unlike them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import FloatArray, random_for
from latentcortex._files import telling_of
from latentcortex.analyses.analysis import AllStimuli, Analysis, StimulusCounts
from latentcortex.analyses.joining import joined
from latentcortex.analyses.models import BandTable
from latentcortex.analyses.scorer import Scorer
from latentcortex.bands import Model
from latentcortex.encoding import Cells, Criterion, Null, Prediction, ReadByChunk, rejudged
from latentcortex.errors import InputError
from latentcortex.features import Features
from latentcortex.maps import TEST_SET, Maps
from latentcortex.responses import Responses
from latentcortex.scoring.reliability import normalised_by_sums, normalised_sums
from latentcortex.splits import Splits, clusters_of, farthest, linked

FRACTION: Final = 5
"""One in so many stimuli is tested on."""
MIN_CLUSTERS: Final = 5
"""Clusters that are held out: fewer cannot have their signs flipped."""
TEST_SETS: Final = ("random", "cluster", "far")
"""What `profile_splits` calls the three test sets, from the most to the least like what is fitted."""


@dataclass(frozen=True)
class Generalisation(Analysis):
    """Scores each latent on three test sets of all stimuli, which are less and less like what is fitted."""

    title: ClassVar[str] = "Scores on stimuli that are unlike the fitted ones"
    figures: ClassVar[tuple[str, ...]] = ("accuracy-by-test-set",)
    methods: ClassVar[str] = (
        "For the profile of generalisation all stimuli were split anew: at random, by whole clusters, whose signs were "
        "flipped for p-values, and with the stimuli farthest from all others held out."
    )

    @property
    def parts(self) -> tuple[str, ...]:
        """Its maps are called after the analysis and the test set."""
        return tuple(f"{self.name}-{kind}" for kind in TEST_SETS)

    @classmethod
    def choose(cls, bands: BandTable) -> Sequence[Sequence[str]]:
        """Take each latent alone, or each band where there are no latents."""
        return [(band,) for band in bands.latents()]

    def check(self, counts: StimulusCounts) -> None:
        """Raise `InputError` unless there are two stimuli per cluster."""
        if counts.n_stimuli < 2 * counts.n_clusters:
            raise InputError(
                f"The analysis {self.name!r} needs at least two stimuli per cluster; there are {counts.n_stimuli} "
                f"stimuli for n_clusters = {counts.n_clusters} in [splits]."
            )

    def maps(self, scorer: Scorer, stimuli: AllStimuli | None = None) -> Maps:
        """Fit and score on each of the three splits; see `profile`."""
        if stimuli is None or not isinstance(scorer.responses, ReadByChunk):
            raise InputError(f"The analysis {self.name!r} splits all stimuli anew; give them and their single trials.")
        splits, clusters = profile_splits(
            stimuli.ids,
            stimuli.groups,
            stimuli.places(),
            n_clusters=stimuli.n_clusters,
            seed=scorer.criterion.seed,
            participant=scorer.responses.splits.participant,
        )
        maps = [
            profile(
                self,
                stimuli.features(split.folds[0].train),
                {kind: replace(scorer.responses, splits=split)},
                scorer.make_estimator,
                criterion=scorer.criterion,
                clusters=clusters,
                cells=scorer.cells,
            )
            for kind, split in splits.items()
        ]
        return rejudged(joined(maps), scorer.criterion)


def profile_splits(
    ids: Sequence[str],
    groups: Sequence[str],
    places: FloatArray,
    *,
    n_clusters: int,
    seed: int,
    participant: str = "",
) -> tuple[dict[str, Splits], dict[str, str]]:
    """Choose three test sets, with as many training stimuli each.

    Parameters
    ----------
    ids : sequence of str
    groups : sequence of str
        Identical images are one group, and so are the clusters that hold them.
    places : ndarray of shape (n_stimuli, n_dims)
        From `splits.coordinates`.
    n_clusters : int
    seed : int
    participant : str

    Returns
    -------
    splits : dict of str to Splits
        One fold each, with as many training stimuli; the others are left out. `random`; `cluster`: whole clusters of
        stimuli; `far`: the stimuli farthest from all others.
    clusters : dict of str to str
        Stimulus -> its cluster.
    """
    n_test = -(-len(ids) // FRACTION)
    clusters = linked(len(ids), groups, clusters_of(places, n_clusters, seed=seed))
    drawn = (_whole(groups, n_test, seed=seed), _whole(clusters, n_test, seed=seed), farthest(places, groups, n_test))
    tests = dict(zip(TEST_SETS, drawn, strict=True))
    n_train = len(ids) - max(len(test) for test in tests.values())
    n_held = len({clusters[i] for i in tests["cluster"]})
    if n_train < len(ids) / 2 or n_held < MIN_CLUSTERS:
        raise InputError(
            f"The {len(ids)} stimuli make clusters too uneven for a profile of generalisation: {n_held} of them would "
            f"be held out, {n_train} stimuli fitted. Choose another n_clusters or embedding in [splits]."
        )
    splits = {}
    for kind, test in tests.items():
        left = np.setdiff1d(np.arange(len(ids)), test)
        train = np.sort(random_for(seed, "generalisation", kind).permutation(left)[:n_train])
        parts = ([ids[i] for i in train], [ids[i] for i in test])
        splits[kind] = Splits.held_out(*parts, participant=participant, name=kind)
    return splits, dict(zip(ids, clusters, strict=True))


def _whole(groups: Sequence[str], n_test: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Draw whole groups until so many stimuli are there; one that would overshoot by half is left out."""
    names, code = np.unique(np.asarray(groups), return_inverse=True)
    sizes, chosen, total = np.bincount(code), [], 0
    for name in random_for(seed, "generalisation", "groups", len(names)).permutation(len(names)):
        if total < n_test and total + sizes[name] <= 1.5 * n_test:
            chosen.append(name)
            total += int(sizes[name])
    return np.flatnonzero(np.isin(code, chosen))


def profile(
    analysis: Analysis,
    features: Features,
    responses: Mapping[str, ReadByChunk],
    make_estimator: Callable[[], Any],
    *,
    criterion: Criterion,
    clusters: Mapping[str, str],
    cells: Cells | None = None,
) -> Maps:
    """Fit and score every model on each of several splits of all stimuli.

    Parameters
    ----------
    analysis : Analysis
    features : Features
    responses : mapping of str to ReadByChunk
        Single trials, with each kind of split of `profile_splits`.
    make_estimator : callable
    criterion : Criterion
    clusters : mapping of str to str
        From `profile_splits`.
    cells : Cells, optional
        How cells are computed, and where they are kept; in memory by default.

    Returns
    -------
    Maps
        r, r2, p, q, mask of each model, where `analysis` ends in the kind of split, which `test_set` says, too.
        Columns of r also say the `mean` over valid voxels with its 95 % interval (`low`, `high`), `normalised`, r
        relative to the noise ceiling (`scoring.normalised_mean`), with `normalised_low` and `normalised_high`, and
        n_train. Intervals are those of `inference.jackknife_interval` over test stimuli, or whole clusters of them.
    """
    maps, fixed = [], cells or Cells()
    for kind, of_kind in responses.items():
        name, alike = f"{analysis.name}-{kind}", clusters if kind == "cluster" else None
        # Stimuli of a cluster are alike: whatever null is asked for, one by one they would not be exchangeable.
        judged = replace(criterion, shares=("product",), null="auto" if alike else criterion.null)
        counted: dict[str, Any] = {"tally": _MeanScores(criterion.seed), "clusters": alike}
        scorer = Scorer(features, of_kind, make_estimator, judged, fixed.of(name), **counted)
        with telling_of(analysis=name):
            scored, totals = scorer.fit_and_count(Analysis(name, analysis.models))
        ((train, test),) = scorer.sample.folds
        of_test = tuple(alike[stimulus] for stimulus in test.ids) if alike else ()
        noted = {}
        for model, total in totals.items():
            means = _means(total, len(test.ids), clusters=of_test, seed=criterion.seed)
            noted[model] = {**means, "n_train": len(train.ids)}
        scored = scored.replace_columns(scored.columns.assign(**{TEST_SET: kind}))
        maps.append(_noted(scored, noted))
    return joined(maps)


def _noted(maps: Maps, facts: Mapping[str, Mapping[str, float]]) -> Maps:
    """Note the facts of each model beside its r."""
    columns = maps.columns
    of_r = [
        facts[model] if statistic == "r" else {}
        for model, statistic in zip(columns["model"], columns["statistic"], strict=True)
    ]
    names = next(iter(facts.values()))
    return maps.replace_columns(columns.assign(**{name: [one.get(name, np.nan) for one in of_r] for name in names}))


@dataclass(frozen=True, eq=False)
class _MeanScores:
    """Sums up, tile by tile, what `mean_scores` makes of all voxels.

    Parameters
    ----------
    seed : int
        For groups of test stimuli that are left out together.
    """

    seed: int

    def counter(self, model: Model, null: Null, test: Responses) -> Callable[[Prediction, slice], FloatArray]:
        """Make what sums up r and ceilings in the prediction of a tile; see `_sums`."""
        repeats = test.repeats() if len(test.rows) > len(test.ids) else None

        def summed(held_out: Prediction, tile: slice) -> FloatArray:
            return _sums(held_out, None if repeats is None else repeats[..., tile], seed=self.seed)

        return summed


def mean_scores(pieces: Sequence[Prediction], repeats: FloatArray | None, *, seed: int) -> dict[str, float]:
    """Average r over valid voxels, and relate it to the ceiling, with intervals over test stimuli or clusters.

    Parameters
    ----------
    pieces : sequence of Prediction
        Of all voxels, in order.
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels), optional
        Single trials of the same stimuli, in the same order; None where nothing was repeated.
    seed : int

    Returns
    -------
    dict of str to float
        `mean`, `low`, `high`, `normalised`, `normalised_low`, `normalised_high`; nan where not known.
    """
    ends = np.cumsum([piece.y.shape[1] for piece in pieces])
    sums = [
        _sums(piece, None if repeats is None else repeats[..., end - piece.y.shape[1] : end], seed=seed)
        for piece, end in zip(pieces, ends, strict=True)
    ]
    return _means(np.sum(sums, axis=0), len(pieces[0].y), clusters=pieces[0].clusters, seed=seed)


def _sums(held_out: Prediction, repeats: FloatArray | None, *, seed: int) -> FloatArray:
    """Sum up r over valid voxels, and what it has of the ceiling, with all test stimuli and without groups of them.

    Returns
    -------
    ndarray of shape (4, 1 + n_groups)
        The sum of r, the number of valid voxels, and the sums of `normalised_sums`.
    """
    n_rows = len(held_out.y)
    weights, left_out = inference.leave_out(n_rows, clusters=held_out.clusters or None, seed=seed)
    scores = scoring.weighted_correlation(held_out.y, held_out.varying, weights)
    # A voxel that varies over the left out stimuli only has no r without them.
    scores = np.where(np.isfinite(scores), scores, scores[0]).astype(np.float64)
    valid, sums = np.isfinite(held_out.r), np.zeros((4, len(weights)))
    sums[0], sums[1] = scores[:, valid].sum(1), valid.sum()
    if repeats is not None:
        n_left = [n_rows, *np.rint(n_rows * (1 - left_out)).astype(int)]
        kept = zip(scores, scoring.weighted_ceiling(repeats, weights), n_left, strict=True)
        sums[2:] = np.transpose([normalised_sums(r, limit, n_stimuli=int(n)) for r, limit, n in kept])
    return sums


def _means(sums: FloatArray, n_rows: int, *, clusters: Sequence[str], seed: int) -> dict[str, float]:
    """Divide the `_sums` of all voxels, and find the intervals; see `mean_scores`."""
    left_out = inference.leave_out(n_rows, clusters=clusters or None, seed=seed)[1]
    scores, n_valid, explained, explainable = sums
    means = scores / np.where(n_valid > 0, n_valid, np.nan)
    relative = [normalised_by_sums(*both, root=True) for both in zip(explained, explainable, strict=True)]
    return _with_ends("mean", means, left_out) | _with_ends("normalised", np.array(relative), left_out)


def _with_ends(name: str, means: FloatArray, left_out: FloatArray) -> dict[str, float]:
    """Take the mean of all stimuli, and its interval from those without some of them."""
    change = (means[1:] - means[0])[:, None]
    low, high = inference.jackknife_interval(means[:1], change, left_out, unbiased=name == "normalised")
    start = "" if name == "mean" else f"{name}_"
    return {name: float(means[0]), f"{start}low": float(low[0]), f"{start}high": float(high[0])}
