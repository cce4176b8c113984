"""Scores of reconstructions from similarities: a mean over images with its chance and its bootstrap draws.

A similarity is an array (n_stimuli, n_stimuli, n_samples): of original i with sample k of the reconstruction of
stimulus j. Its diagonal says how good reconstructions are, the rest what chance is; identification compares the
two. A similarity that is nan is compared with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from latentcortex import inference
from latentcortex._arrays import BoolArray, FloatArray, arrays, check_axes, same_length, truths
from latentcortex._shelf import unknown
from latentcortex.inference.ties import beaten

Fixed = Literal["original", "reconstruction"]


@dataclass(frozen=True, eq=False)
class Score:
    """A mean over images, with what chance gives and its bootstrap draws over images.

    Parameters
    ----------
    value : float
        nan where no image has a score.
    chance : float
        What reconstructions of other images give.
    draws : ndarray of shape (n_draws,)
        The value when images are drawn with replacement, as targets and as distractors.
    known : ndarray of bool, shape (n_stimuli,)
        Which images have a score.
    """

    value: float
    chance: float
    draws: FloatArray = field(repr=False)
    known: BoolArray = field(repr=False)

    @property
    def n_images(self) -> int:
        """Images that have a score."""
        return int(self.known.sum())

    @property
    def interval(self) -> tuple[float, float]:
        """The percentile interval of 95 %."""
        known = self.draws[np.isfinite(self.draws)]
        low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
        return float(low), float(high)

    @property
    def standard_error(self) -> float:
        """The standard deviation of the draws."""
        return float(np.nanstd(self.draws)) if np.isfinite(self.draws).any() else float("nan")

    def less(self, other: Score) -> Score:
        """Subtract a score of the same images under the same draws: a paired difference, nan for other images."""
        same_length(images=self.known, others=other.known)
        same = np.array_equal(self.known, other.known)
        draws = self.draws - other.draws if same else np.full_like(self.draws, np.nan)
        return Score(self.value - other.value if same else float("nan"), 0.0, draws, self.known & other.known)


def bootstrap_counts(n_stimuli: int, *, n_draws: int, seed: int) -> FloatArray:
    """Count how often each image comes in each bootstrap draw; (n_draws, n_stimuli)."""
    rows = inference.bootstrap_rows(n_stimuli, n_draws=n_draws, seed=seed)
    return np.stack([np.bincount(row, minlength=n_stimuli) for row in rows]).astype(np.float64)


def own_score(similarity: FloatArray, counts: FloatArray, *, among: BoolArray | None = None) -> Score:
    """Average the similarity of originals with their own reconstructions, over samples and images.

    Chance is the mean similarity with reconstructions of other images.

    Parameters
    ----------
    similarity : ndarray of shape (n_stimuli, n_stimuli, n_samples)
    counts : ndarray of shape (n_draws, n_stimuli)
        See `bootstrap_counts`.
    among : ndarray of bool, shape (n_stimuli, n_stimuli), optional
        Which others count for chance; all by default.
    """
    similarity, counts, among = _checked(similarity, counts, among)
    means = _mean_over_samples(similarity)
    others = ~np.eye(len(means), dtype=bool) & np.isfinite(means)
    if among is not None:
        others &= among
    own, chance = np.diag(means), float(means[others].mean()) if others.any() else float("nan")
    return _averaged(own, np.broadcast_to(own, counts.shape), counts, chance)


def identification(
    similarity: FloatArray,
    counts: FloatArray,
    *,
    fixed: Fixed,
    among: BoolArray | None = None,
    samples: Literal["each", "mean"] = "each",
) -> Score:
    """Find how often the right one of two is the more similar one.

    With the original fixed, its own reconstruction is compared with those of other stimuli; with the
    reconstruction fixed, its own original with other originals. A tie counts half, so that chance is .5 also
    where two reconstructions are the same image; what differs by rounding only is a tie (`inference.ties`).

    Parameters
    ----------
    similarity : ndarray of shape (n_stimuli, n_stimuli, n_samples)
    counts : ndarray of shape (n_draws, n_stimuli)
    fixed : {"original", "reconstruction"}
        The side that stays; Takagi and Nishimoto fix the original, Brain-Diffuser the reconstruction.
    among : ndarray of bool, shape (n_stimuli, n_stimuli), optional
        Which stimuli are compared with which; all others by default.
    samples : {"each", "mean"}
        Whether samples are identified one by one and the results averaged, or, as Takagi and Nishimoto do,
        similarities are averaged over samples first, which gains with the number of samples.

    Returns
    -------
    Score
        Mean over images of the fraction of others that are beaten.

    References
    ----------
    Takagi and Nishimoto (2023), doi:10.1109/CVPR52729.2023.01389
    """
    if fixed not in ("original", "reconstruction"):
        raise unknown("fixed side", fixed, ("original", "reconstruction"))
    cube, counts, among = _checked(similarity, counts, among)
    if samples == "mean":
        cube = _mean_over_samples(cube)[:, :, None].astype(cube.dtype)  # no finer than what was averaged
    if fixed == "reconstruction":
        cube = cube.transpose(1, 0, 2)
    own = cube[np.arange(len(cube)), np.arange(len(cube))][:, None]
    undefined = np.isnan(own) | np.isnan(cube)
    wins = _mean_over_samples(np.where(undefined, np.nan, beaten(cube, by=own)))
    compared = np.isfinite(wins) & ~np.eye(len(wins), dtype=bool)
    if among is not None:
        compared &= among
    won = np.where(compared, wins, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = won.sum(1) / compared.sum(1)
        drawn = (counts @ won.T) / (counts @ compared.T)
    return _averaged(accuracy, drawn, counts, 0.5)


def pool_size(among: BoolArray) -> int:
    """Count among how many stimuli one is identified, itself included; the mean, rounded."""
    others = (among & ~np.eye(len(among), dtype=bool)).sum(1)
    return round(float(others[others > 0].mean())) + 1 if others.any() else 1


def _averaged(value: FloatArray, drawn: FloatArray, counts: FloatArray, chance: float) -> Score:
    known = np.isfinite(value)
    weights = counts * np.isfinite(drawn)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (weights * np.nan_to_num(drawn)).sum(1) / weights.sum(1)
    mean = float(value[known].mean()) if known.any() else float("nan")
    return Score(mean, chance, draws, np.asarray(known))


def _mean_over_samples(cube: FloatArray) -> FloatArray:
    """Average over the samples that are defined; nan where none is."""
    known = np.isfinite(cube)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, cube, 0).sum(2, dtype=np.float64) / known.sum(2))


def _checked(
    similarity: FloatArray, counts: FloatArray, among: BoolArray | None
) -> tuple[FloatArray, FloatArray, BoolArray | None]:
    """Return what is scored; raise `AlignmentError` unless all of it is of the same stimuli."""
    cube, draws = arrays(similarity=(similarity, "n_stimuli n_stimuli n_samples"), counts=(counts, "n_draws n_stimuli"))
    if among is not None:
        among = truths("among", among)
        check_axes("among", among.shape, "n_stimuli n_stimuli", {"n_stimuli": len(cube)})
    return cube, draws, among
