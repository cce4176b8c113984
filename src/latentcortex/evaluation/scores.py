"""Scores of reconstructions from similarities: a mean over images with its chance and its interval.

A similarity is an array (n_stimuli, n_stimuli, n_samples): of original i with sample k of the reconstruction of
stimulus j. Its diagonal says how good reconstructions are, the rest what chance is; identification compares the
two. A similarity that is nan is compared with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from latentcortex._arrays import (
    BoolArray,
    FloatArray,
    arrays,
    check_axes,
    labels,
    random_for,
    refuse_beyond_memory,
    same_length,
    truths,
    whole_number,
)
from latentcortex._shelf import unknown
from latentcortex.inference.ties import beaten

Fixed = Literal["original", "reconstruction"]


@dataclass(frozen=True, eq=False)
class Score:
    """A mean over images, with what chance gives and its draws over images.

    Parameters
    ----------
    value : float
        nan where no image has a score.
    chance : float
        What reconstructions of other images give.
    each : ndarray of shape (n_stimuli,)
        What each image adds to the mean, as a target and as a distractor; nan where it has no score.
    weights : ndarray of shape (n_draws, n_stimuli)
        From `image_weights`.
    limits : (float, float), optional
        Between what the score of any image lies; without them between the worst and the best that were seen.
    higher_is_better : bool
        Whether it is a likeness, and no distance.
    """

    value: float
    chance: float
    each: FloatArray = field(repr=False)
    weights: FloatArray = field(repr=False)
    limits: tuple[float, float] | None = None
    higher_is_better: bool = True

    @property
    def defined(self) -> BoolArray:
        """Which images have a score, (n_stimuli,)."""
        return np.asarray(np.isfinite(self.each))

    @property
    def n_images(self) -> int:
        """Images that have a score."""
        return int(self.defined.sum())

    @property
    def interval(self) -> tuple[float, float]:
        r"""The interval of 95 %.

        Images, or whole clusters of them, are drawn with Dirichlet weights, of which one belongs to an image that was
        not seen: it has the worst score at the lower end and the best one at the upper end, so that images that all
        came back leave room for others (Gaffke). For scores of 0 and 1 it is Clopper and Pearson's interval.

        References
        ----------
        Gaffke (2005), Mathematical Methods of Statistics 14, 451-467; Learned-Miller and Thomas (2019),
        arXiv:1905.06208
        """
        if not self.defined.any():
            return float("nan"), float("nan")
        measured = self.each[self.defined]
        worst, best = self.limits or (float(measured.min()), float(measured.max()))
        low, high = float(np.percentile(self._draws(worst), 2.5)), float(np.percentile(self._draws(best), 97.5))
        # What an image adds, as a distractor, too, may lie a little beyond.
        return (max(low, worst), min(high, best)) if self.limits else (low, high)

    @property
    def standard_error(self) -> float:
        """The standard deviation of the draws, where the image that was not seen is like the average one."""
        return float(self._draws(self.value).std()) if self.defined.any() else float("nan")

    def _draws(self, unseen: float) -> FloatArray:
        """Average in every draw, with what the image that was not seen is taken to have, (n_draws,)."""
        weights = self.weights[:, self.defined].astype(np.float64)
        left = 1 - self.weights.sum(1, dtype=np.float64)
        return np.asarray((weights @ self.each[self.defined] + left * unseen) / (weights.sum(1) + left))

    def less(self, other: Score) -> Score:
        """Subtract a score of the same images under the same draws: a paired difference, nan for other images.

        An image that was not seen has the worst or the best difference of those that were; if these are all the same,
        what its scores may differ by at most.
        """
        same_length(images=self.each, others=other.each)
        same = np.array_equal(self.defined, other.defined)
        each = self.each - other.each if same else np.full_like(self.each, np.nan)
        limits = None
        if self.limits and other.limits and len(np.unique(each[np.isfinite(each)])) == 1:
            limits = (self.limits[0] - other.limits[1], self.limits[1] - other.limits[0])
        return Score(self.value - other.value if same else float("nan"), 0.0, each, self.weights, limits)


def image_weights(clusters: int | Sequence[str], *, n_draws: int, seed: int) -> FloatArray:
    """Draw weights of images, Dirichlet's of all and of one that was not seen.

    Parameters
    ----------
    clusters : int or sequence of str, length n_stimuli
        How many images there are, or the cluster of each, such as its category, if scores are to hold for new clusters:
        images of a cluster are drawn together.
    n_draws, seed : int

    Returns
    -------
    ndarray of shape (n_draws, n_stimuli)
        At least 0; each row sums to less than 1, and what is missing belongs to a cluster of the average size that was
        not seen.

    References
    ----------
    Rubin (1981), doi:10.1214/aos/1176345338, for the Bayesian bootstrap
    """
    names = range(whole_number("clusters", clusters, least=1)) if isinstance(clusters, int) else clusters
    code = np.unique(labels("clusters", names, len(names)), return_inverse=True)[1]
    sizes = np.bincount(code)
    refuse_beyond_memory("n_draws", whole_number("n_draws", n_draws, least=1), 32 * len(code))
    drawn = np.stack([random_for(seed, "images", i).standard_exponential(len(sizes) + 1) for i in range(n_draws)])
    of_images = drawn[:, :-1][:, code]
    return np.asarray(of_images / (of_images.sum(1) + drawn[:, -1] * sizes.mean())[:, None])


def own_score(
    similarity: FloatArray,
    weights: FloatArray,
    *,
    among: BoolArray | None = None,
    limits: tuple[float, float] | None = None,
) -> Score:
    """Average the similarity of originals with their own reconstructions, over samples and images.

    Chance is the mean similarity with reconstructions of other images.

    Parameters
    ----------
    similarity : ndarray of shape (n_stimuli, n_stimuli, n_samples)
    weights : ndarray of shape (n_draws, n_stimuli)
        From `image_weights`.
    among : ndarray of bool, shape (n_stimuli, n_stimuli), optional
        Which others count for chance; all by default.
    limits : (float, float), optional
        See `Score`.
    """
    similarity, weights, among = _checked(similarity, weights, among)
    means = _mean_over_samples(similarity)
    others = ~np.eye(len(means), dtype=bool) & np.isfinite(means)
    if among is not None:
        others &= among
    of_itself, chance = np.diag(means), float(means[others].mean()) if others.any() else float("nan")
    return _averaged(of_itself, of_itself, weights, chance, limits)


def identification(
    similarity: FloatArray,
    weights: FloatArray,
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
    weights : ndarray of shape (n_draws, n_stimuli)
        From `image_weights`.
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
    cube, weights, among = _checked(similarity, weights, among)
    if samples == "mean":
        cube = _mean_over_samples(cube)[:, :, None].astype(cube.dtype)  # no finer than what was averaged
    if fixed == "reconstruction":
        cube = cube.transpose(1, 0, 2)
    of_itself = cube[np.arange(len(cube)), np.arange(len(cube))][:, None]
    undefined = np.isnan(of_itself) | np.isnan(cube)
    wins = _mean_over_samples(np.where(undefined, np.nan, beaten(cube, by=of_itself)))
    compared = np.isfinite(wins) & ~np.eye(len(wins), dtype=bool)
    if among is not None:
        compared &= among
    won = np.where(compared, wins, 0.0)
    n_compared = compared.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = won.sum(1) / n_compared
        # What an image adds as a distractor: it wins against others less often, or more, than their average one.
        apart = (won - np.where(compared, accuracy[:, None], 0)) / n_compared[:, None]
    return _averaged(accuracy, accuracy + np.where(n_compared[:, None] > 0, apart, 0).sum(0), weights, 0.5, (0.0, 1.0))


def pool_size(among: BoolArray) -> int:
    """Count among how many stimuli one is identified, itself included; the mean, rounded."""
    others = (among & ~np.eye(len(among), dtype=bool)).sum(1)
    return round(float(others[others > 0].mean())) + 1 if others.any() else 1


def _averaged(
    value: FloatArray, linear: FloatArray, weights: FloatArray, chance: float, limits: tuple[float, float] | None
) -> Score:
    """Average over the images that have a value; `linear` is what each adds to the mean, (n_stimuli,)."""
    finite = np.isfinite(value)
    mean = float(value[finite].mean()) if finite.any() else float("nan")
    return Score(mean, chance, np.where(finite, linear, np.nan).astype(np.float64), weights, limits)


def _mean_over_samples(cube: FloatArray) -> FloatArray:
    """Average over the samples that are defined; nan where none is."""
    finite = np.isfinite(cube)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(finite, cube, 0).sum(2, dtype=np.float64) / finite.sum(2))


def _checked(
    similarity: FloatArray, weights: FloatArray, among: BoolArray | None
) -> tuple[FloatArray, FloatArray, BoolArray | None]:
    """Return what is scored; raise `AlignmentError` unless all of it is of the same stimuli."""
    cube, draws = arrays(
        similarity=(similarity, "n_stimuli n_stimuli n_samples"), weights=(weights, "n_draws n_stimuli")
    )
    if among is not None:
        among = truths("among", among)
        check_axes("among", among.shape, "n_stimuli n_stimuli", {"n_stimuli": len(cube)})
    return cube, draws, among
