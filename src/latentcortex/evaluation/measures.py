"""What a study measures of its reconstructions, and the table that this ends in."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from latentcortex._arrays import BoolArray, FloatArray, listed, random_for, same_length
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError
from latentcortex.evaluation.metric import Compared, Metric, Originals, word_of
from latentcortex.evaluation.scores import Fixed, Score, identification, own_score, pool_size
from latentcortex.evaluation.similarity import Images, row_correlation
from latentcortex.features import Features
from latentcortex.splits import linked
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)

MAX_SLOW_PAIRS: Final = 20_000
"""Pairs that a slow metric looks at: beside its own reconstructions an original is held against as many others."""
DECODED: Final = "decoded"
"""Stands for a route in the table where a score is of decoded bands and not of images."""
NO_CATEGORY: Final = ("", "n/a", "nan", "None", "<NA>")


@dataclass(frozen=True, eq=False)
class Seen:
    """The stimuli that were reconstructed, and among which others each is identified.

    Parameters
    ----------
    stimuli : Stimuli
    pools : sequence of str, optional
        The pool of each stimulus, within which it is compared: its fold. All are one pool by default.
    category : str
        Column of the stimuli's table; identification is repeated within each category. Empty for none.
    """

    stimuli: Stimuli
    pools: Sequence[str] = ()
    category: str = ""

    def __post_init__(self) -> None:
        if not self.pools:
            object.__setattr__(self, "pools", ["0"] * len(self.stimuli.ids))
        same_length(stimuli=self.stimuli.ids, pools=self.pools)
        if self.category and self.category not in self.stimuli.table.columns:
            raise unknown("column of the stimuli, for `category`:", self.category, self.stimuli.table.columns)

    @cached_property
    def images(self) -> Images:
        """The originals."""
        return self.stimuli.images(self.stimuli.ids)

    @property
    def originals(self) -> Originals:
        """The originals with what the table says of them."""
        return Originals(self.images, self.stimuli.table)

    @cached_property
    def comparisons(self) -> dict[str, BoolArray]:
        """How identifications are named -> who is compared with whom, (n_stimuli, n_stimuli)."""
        pool = _same(self.pools)
        by_pool = {f"pool-{pool_size(pool)}": pool}
        if self.category:
            labels = list(self.stimuli.table[self.category].astype(str))
            named = np.array([label not in NO_CATEGORY for label in labels])
            if not named.all():
                logger.info("%d stimuli have no %s and are in no category.", int((~named).sum()), self.category)
            within = pool & _same(labels) & named & named[:, None]
            by_pool[f"within-{word_of(self.category)}_pool-{pool_size(within)}"] = within
        return by_pool

    def clusters(self, groups: Mapping[str, str]) -> list[str]:
        """Name the cluster of each stimulus that is drawn with it: its category, if any, and stimuli as good as one.

        Parameters
        ----------
        groups : dict
            Stimulus -> its group, of those that are as good as one.
        """
        ids = self.stimuli.ids
        same = [groups[name] for name in ids]
        if not self.category:
            return same
        labels = self.stimuli.table[self.category].astype(str)
        return linked(len(ids), same, [f"{one} {i}" if one in NO_CATEGORY else one for i, one in enumerate(labels)])

    def sampled(self, n_samples: int, seed: int) -> dict[str, BoolArray]:
        """Choose, for each comparison, the pairs that slow metrics look at; all where they are few enough."""
        n, ids = len(self.stimuli.ids), np.array(self.stimuli.ids)
        most = max(5, MAX_SLOW_PAIRS // (n * n_samples))
        chosen = {}
        for name, among in self.comparisons.items():
            # Drawn in the order of ids, so that no order of rows decides.
            order = np.stack([random_for(seed, "pairs for SSIM", name, one).random(n) for one in ids])
            order = order[:, np.argsort(np.argsort(ids))]
            order[~among] = np.inf
            np.fill_diagonal(order, -1)
            last = np.sort(order, axis=1)[:, min(most, n - 1)]
            chosen[name] = (order <= last[:, None]) & np.isfinite(order)
        return chosen


def samples_of(reconstructions: Stimuli, ids: Sequence[str]) -> NDArray[np.uint8]:
    """Load all samples of these stimuli, found by id.

    Parameters
    ----------
    reconstructions : Stimuli
        From `reconstruct`: its table has the columns `stimulus` and `sample`.
    ids : sequence of str

    Returns
    -------
    ndarray of uint8, shape (n_stimuli, n_samples, height, width, 3)

    Raises
    ------
    AlignmentError
        If a stimulus, or one of its samples, is not there.
    """
    table = reconstructions.table
    names = dict(zip(zip(table["stimulus"], table["sample"], strict=True), table.index, strict=True))
    wanted = [(name, k) for name in ids for k in sorted(set(table["sample"]))]
    missing = [f"{name} (sample {k})" for name, k in wanted if (name, k) not in names]
    if missing:
        raise AlignmentError(f"{len(missing)} of {len(wanted)} reconstructions are not there: {listed(missing)}.")
    images = reconstructions.images([names[key] for key in wanted])
    return images.reshape(len(ids), -1, *images.shape[1:])


def image_similarities(
    seen: Seen, reconstructions: Stimuli, metrics: Mapping[str, Metric], *, wanted: BoolArray | None = None
) -> dict[str, Compared]:
    """Compare every original with every sample of every reconstruction.

    Parameters
    ----------
    seen : Seen
    reconstructions : Stimuli
        From `reconstruct`; brought to the originals' size where they differ (bicubic).
    metrics : mapping of str to Metric
        From `make_metrics`.
    wanted : ndarray of bool, shape (n_stimuli, n_stimuli), optional
        The pairs that slow metrics look at; all by default.

    Returns
    -------
    dict
        Metric -> its `Compared`, each array of shape (n_stimuli, n_stimuli, n_samples).
    """
    samples = samples_of(reconstructions, seen.stimuli.ids)
    n, n_samples = samples.shape[:2]
    flat = _sized(samples.reshape(-1, *samples.shape[2:]), seen.images.shape[1:3])
    pairs = np.repeat(wanted, n_samples, axis=1) if wanted is not None else None
    cubes = {}
    for name, metric in metrics.items():
        compared = metric.compare(seen.originals, flat, pairs if metric.of_few_pairs else None)
        _log_undefined(metric, compared)
        scores = {measure: values.reshape(n, n, n_samples) for measure, values in compared.scores.items()}
        cubes[name] = Compared(compared.identifying.reshape(n, n, n_samples), scores)
    return cubes


def _log_undefined(metric: Metric, compared: Compared) -> None:
    """Note how many images a metric that looks at all pairs says nothing of."""
    n_undefined = 0 if metric.of_few_pairs else int(np.isnan(compared.identifying).all(0).sum())
    if n_undefined:
        said = "The metric %s is undefined for %d of %d reconstructions, such as images of one colour."
        logger.info(said, metric.name, n_undefined, compared.identifying.shape[1])


def image_scores(
    seen: Seen, reconstructions: Stimuli, metrics: Mapping[str, Metric], weights: FloatArray, *, seed: int = 0
) -> dict[str, Score]:
    """Score the reconstructions of one route by every metric, and identify by each; measure -> score."""
    n_samples = reconstructions.table["sample"].nunique()
    is_slow = any(metric.of_few_pairs for metric in metrics.values())
    pairs = seen.sampled(n_samples, seed) if is_slow else seen.comparisons
    wanted = np.asarray(np.logical_or.reduce([*pairs.values()])) if is_slow else None
    compared, pool = image_similarities(seen, reconstructions, metrics, wanted=wanted), next(iter(pairs.values()))
    scores = {}
    for name, metric in metrics.items():
        for measure, cube in compared[name].scores.items():
            score = own_score(cube, weights, among=pool if metric.of_few_pairs else None, limits=metric.limits)
            chance = score.chance if metric.chance is None else metric.chance
            scores[measure] = replace(score, chance=chance, higher_is_better=metric.higher_is_better)
    for name, metric in metrics.items():
        among = pairs if metric.of_few_pairs else seen.comparisons
        scores |= _identifications(metric.word, compared[name].identifying, among, weights)
    return scores


def mean_image(stimuli: Stimuli, ids: Sequence[str]) -> Images:
    """Average the images of these stimuli, rounded to uint8, (height, width, 3).

    It is what a method that knows nothing of the responses may give for every stimulus.
    """
    total = np.zeros(stimuli.load(ids[0]).shape)
    for name in ids:
        total += stimuli.load(name)
    return np.rint(total / len(ids)).astype(np.uint8)


def mean_image_scores(seen: Seen, means: Mapping[str, Images], metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Score the mean training image as if it had been reconstructed of every stimulus.

    Parameters
    ----------
    seen : Seen
    means : dict
        Pool -> mean of its training images, from `mean_image`.
    metrics : mapping of str to Metric
        From `make_metrics`.

    Returns
    -------
    dict of str to float
        Measure -> mean over stimuli. Identification is left out: one image for all is at one half.
    """
    scores: dict[str, list[float]] = {}
    for pool, mean in means.items():
        in_pool = np.flatnonzero(np.asarray(seen.pools, dtype=str) == pool)
        if not len(in_pool):
            continue
        image = _sized(mean[None], seen.images.shape[1:3])
        originals = Originals(seen.images[in_pool], seen.stimuli.table.iloc[in_pool])
        for metric in metrics.values():
            for measure, values in metric.compare(originals, image).scores.items():
                scores.setdefault(measure, []).extend(values[:, 0])
    return {measure: _mean(values) for measure, values in scores.items()}


def _mean(values: Sequence[float]) -> float:
    """Average what is defined; nan where nothing is."""
    finite = np.asarray(values)[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def latent_scores(
    seen: Seen, band: str, features: Features, decoded: Features, means: Mapping[str, FloatArray], weights: FloatArray
) -> dict[str, Score]:
    """Score one decoded band against the true one, both less the mean over training stimuli.

    Parameters
    ----------
    seen : Seen
    band : str
    features, decoded : Features
        The true ones and the decoded ones.
    means : dict
        Pool -> training mean of the band, (n_dims,): in each fold another. Stimuli of two pools are not compared.
    weights : ndarray of shape (n_draws, n_stimuli)
    """
    true, given = features.array(band, seen.stimuli.ids), decoded.array(band, seen.stimuli.ids)
    similarity = np.full((len(true), len(true)), np.nan, dtype=np.float32)
    for pool, mean in means.items():
        in_pool = np.flatnonzero(np.asarray(seen.pools, dtype=str) == pool)
        similarity[np.ix_(in_pool, in_pool)] = row_correlation(true[in_pool], given[in_pool], mean)
    cube = similarity[:, :, None]
    space = word_of(band)
    return {
        f"correlation_space-{space}": own_score(cube, weights),
        **_identifications(space, cube, seen.comparisons, weights),
    }


def score_table(
    routes: Mapping[str, Mapping[str, Score]],
    shuffled: Mapping[str, Mapping[str, Score]],
    of_mean_image: Mapping[str, float] | None = None,
    *,
    baseline: str = "retrieval",
) -> pd.DataFrame:
    """Put the scores of all routes beside their chance, their shuffled-brain control and the baseline.

    Parameters
    ----------
    routes : dict
        Route -> measure -> score.
    shuffled : dict
        The same from responses that were shuffled among stimuli.
    of_mean_image : dict, optional
        Measure -> score of the mean training image, from `mean_image_scores`; nan for others.
    baseline : str
        Route that the others must beat; the difference is paired over images, and above 0 where they are better.

    Returns
    -------
    DataFrame
        One row per route and measure; every `_low` and `_high` is an end of an interval of 95 % over images.
    """
    rows: list[dict[str, Any]] = []
    for route, scores in routes.items():
        for measure, score in scores.items():
            row: dict[str, Any] = {"route": route, "measure": measure, **_named("score", score)}
            row |= {"chance": score.chance, "mean_image": (of_mean_image or {}).get(measure, float("nan"))}
            control = shuffled.get(route, {}).get(measure)
            row |= _named("shuffled", control) if control else {}
            base = routes.get(baseline, {}).get(measure)
            if base and route not in (baseline, DECODED):
                row |= _named("above_baseline", score.less(base) if score.higher_is_better else base.less(score))
            rows.append({**row, "n_images": score.n_images})
    return pd.DataFrame(rows)


def _named(name: str, score: Score) -> dict[str, float]:
    """Lay a score out as columns of the table: the value and both ends of its interval."""
    low, high = score.interval
    return {name: score.value, f"{name}_low": low, f"{name}_high": high}


def _identifications(
    space: str,
    similarity: FloatArray,
    among: Mapping[str, BoolArray],
    weights: FloatArray,
) -> dict[str, Score]:
    """Identify in both directions, by every comparison."""
    sides: tuple[Fixed, ...] = ("original", "reconstruction")
    return {
        f"identification_space-{space}_fixed-{fixed}_{name}": identification(
            similarity, weights, fixed=fixed, among=pairs if fixed == "original" else pairs.T
        )
        for name, pairs in among.items()
        for fixed in sides
    }


def _same(labels: Sequence[str]) -> BoolArray:
    """Tell which stimuli share a label with which, (n_stimuli, n_stimuli)."""
    codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]
    return np.asarray(codes[:, None] == codes)


def _sized(images: Images, size: tuple[int, ...]) -> Images:
    """Bring images to a size (height, width), bicubic, which is noted; as they are where they have it."""
    if images.shape[1:3] == size:
        return images
    height, width = size
    logger.info("Reconstructions of %s were resized to the originals' %s to be compared.", images.shape[1:3], size)
    return np.stack([np.asarray(Image.fromarray(i).resize((width, height), Image.Resampling.BICUBIC)) for i in images])
