"""What a study measures of its reconstructions, and the table that this ends in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from latentcortex._arrays import BoolArray, FloatArray, IntArray, listed, random_for, same_length
from latentcortex._shelf import unknown
from latentcortex.datasets import Probe
from latentcortex.errors import AlignmentError, InputError
from latentcortex.evaluation.scores import Fixed, Score, identification, own_score, pool_size
from latentcortex.evaluation.similarity import Images, pixel_correlation, row_correlation, ssim, two_alternative
from latentcortex.features import Features
from latentcortex.stimuli import Stimuli

MOST_OTHERS: Final = 60
"""SSIM, which is slow, holds an original against its own reconstruction and at most so many others, drawn at random."""


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

    @cached_property
    def comparisons(self) -> dict[str, BoolArray]:
        """How identifications are named -> who is compared with whom, (n_stimuli, n_stimuli)."""
        pool = _same(self.pools)
        found = {f"pool-{pool_size(pool)}": pool}
        if self.category:
            within = pool & _same(list(self.stimuli.table[self.category].astype(str)))
            found[f"within-{_word(self.category)}_pool-{pool_size(within)}"] = within
        return found


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


def check_words(seen: Seen, probe: Probe | None) -> None:
    """Raise `InputError` unless every attribute of the probe is a column with words that the probe knows."""
    for name, known in probe.attributes.items() if probe is not None else ():
        _numbered(name, list(seen.stimuli.table[name]), known)


def image_similarities(
    seen: Seen, reconstructions: Stimuli, probe: Probe | None = None, *, seed: int = 0
) -> dict[str, FloatArray]:
    """Compare every original with every sample of every reconstruction.

    Parameters
    ----------
    seen : Seen
    reconstructions : Stimuli
        From `reconstruct`; brought to the originals' size where they differ (bicubic).
    probe : Probe, optional
        Reads attributes; its measures are left out without it.
    seed : int
        For the pairs that SSIM looks at.

    Returns
    -------
    dict
        `pixels`, `ssim`, with a probe also `attributes` (log-probability of all words of the original) and
        each attribute's name (two alternatives); each (n_stimuli, n_stimuli, n_samples).
    """
    samples = samples_of(reconstructions, seen.stimuli.ids)
    n, k = samples.shape[:2]
    flat = _sized(samples.reshape(-1, *samples.shape[2:]), seen.images.shape[1:3])
    wanted = np.repeat(_some_pairs(seen.comparisons.values(), seed), k, axis=1)
    found = {"pixels": pixel_correlation(seen.images, flat), "ssim": ssim(seen.images, flat, wanted)}
    if probe is not None:
        read, table = probe.read(flat), seen.stimuli.table
        words = {name: _numbered(name, list(table[name]), known) for name, known in probe.attributes.items()}
        found["attributes"] = np.sum([read[name][:, own].T for name, own in words.items()], axis=0)
        found |= {name: two_alternative(read[name], own) for name, own in words.items()}
    return {name: values.reshape(n, n, k) for name, values in found.items()}


def image_scores(
    seen: Seen, reconstructions: Stimuli, probe: Probe | None, counts: FloatArray, *, seed: int = 0
) -> dict[str, Score]:
    """Score the reconstructions of one route by every measure; name -> score."""
    found = image_similarities(seen, reconstructions, probe, seed=seed)
    scores = {"correlation_space-pixels": own_score(found["pixels"], counts), "ssim": own_score(found["ssim"], counts)}
    for name in probe.attributes if probe is not None else ():
        scores[f"attribute_name-{name}"] = own_score(found[name], counts, chance=0.5)
    for space in ("pixels", "ssim", "attributes"):
        if space in found:
            scores |= _identifications(space, found[space], seen, counts)
    return scores


def latent_scores(
    seen: Seen, band: str, features: Features, decoded: Features, means: Mapping[str, FloatArray], counts: FloatArray
) -> dict[str, Score]:
    """Score one decoded band against the true one, both less the mean that was trained on.

    Parameters
    ----------
    seen : Seen
    band : str
    features, decoded : Features
        The true ones and the decoded ones.
    means : dict
        Pool -> training mean of the band, (n_dims,): in each fold another. Stimuli of two pools are not compared.
    counts : ndarray of shape (n_draws, n_stimuli)
    """
    true, found = features.array(band, seen.stimuli.ids), decoded.array(band, seen.stimuli.ids)
    similarity = np.full((len(true), len(true)), np.nan, dtype=np.float32)
    for pool, mean in means.items():
        own = np.flatnonzero(np.asarray(seen.pools, dtype=str) == pool)
        similarity[np.ix_(own, own)] = row_correlation(true[own], found[own], mean)
    cube = similarity[:, :, None]
    space = _word(band)
    return {f"correlation_space-{space}": own_score(cube, counts), **_identifications(space, cube, seen, counts)}


def score_table(
    routes: Mapping[str, Mapping[str, Score]],
    shuffled: Mapping[str, Mapping[str, Score]],
    baseline: str = "retrieval",
) -> pd.DataFrame:
    """Put the scores of all routes beside their chance, their shuffled-brain control and the baseline.

    Parameters
    ----------
    routes : dict
        Route -> measure -> score.
    shuffled : dict
        The same from responses that were shuffled among stimuli.
    baseline : str
        Route that the others must beat; the difference is paired over images.

    Returns
    -------
    DataFrame
        One row per route and measure; every `_low` and `_high` is an interval of 95 % by bootstrap over images.
    """
    rows: list[dict[str, Any]] = []
    for route, scores in routes.items():
        for measure, score in scores.items():
            row: dict[str, Any] = {"route": route, "measure": measure, **_named("score", score)}
            row |= {"chance": score.chance}
            control = shuffled.get(route, {}).get(measure)
            row |= _named("shuffled", control) if control else {}
            base = routes.get(baseline, {}).get(measure)
            row |= _named("above_baseline", score.less(base)) if base and route != baseline else {}
            rows.append({**row, "n_images": score.n_images})
    return pd.DataFrame(rows)


def _named(name: str, score: Score) -> dict[str, float]:
    low, high = score.interval
    return {name: score.value, f"{name}_low": low, f"{name}_high": high}


def _identifications(space: str, similarity: FloatArray, seen: Seen, counts: FloatArray) -> dict[str, Score]:
    sides: tuple[Fixed, ...] = ("original", "reconstruction")
    return {
        f"identification_space-{space}_fixed-{fixed}_{name}": identification(
            similarity, counts, fixed=fixed, among=among
        )
        for name, among in seen.comparisons.items()
        for fixed in sides
    }


def _word(name: str) -> str:
    """Make a name fit into the name of a measure, where `_` and `-` have a meaning."""
    return "".join(letter for letter in name if letter.isalnum())


def _same(labels: Sequence[str]) -> BoolArray:
    codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]
    return np.asarray(codes[:, None] == codes)


def _numbered(attribute: str, words: Sequence[str], known: Sequence[str]) -> IntArray:
    strange = sorted(set(words) - set(known))
    if strange:
        raise InputError(f"Column {attribute} has words that the probe does not know: {listed(strange)}.")
    return np.array([known.index(word) for word in words], dtype=np.intp)


def _some_pairs(comparisons: Iterable[BoolArray], seed: int) -> BoolArray:
    """Choose, for each stimulus, itself and at most `MOST_OTHERS` of those that each comparison holds it against."""
    chosen = []
    for k, among in enumerate(comparisons):
        order = random_for(seed, "pairs for SSIM", k).random(among.shape)
        order[~among] = np.inf
        np.fill_diagonal(order, -1)
        last = np.sort(order, axis=1)[:, min(MOST_OTHERS, len(order) - 1)]
        chosen.append((order <= last[:, None]) & np.isfinite(order))
    return np.asarray(np.logical_or.reduce(chosen))


def _sized(images: Images, size: tuple[int, ...]) -> Images:
    if images.shape[1:3] == size:
        return images
    height, width = size
    return np.stack([np.asarray(Image.fromarray(i).resize((width, height), Image.Resampling.BICUBIC)) for i in images])
