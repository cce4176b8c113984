"""Which band predicts a voxel best, and whether that can be told. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import BoolArray, FloatArray, IntArray, arrays, tiles
from latentcortex.errors import InputError
from latentcortex.executors import one_thread, share
from latentcortex.inference import halves
from latentcortex.inference.corrections import fdr, simes_p
from latentcortex.inference.halves import Resampling
from latentcortex.inference.resampling import bootstrap_weights, cluster_sums, paired_difference_p, signs
from latentcortex.inference.ties import reaches, same_predictions
from latentcortex.scoring import correlation, weighted_correlation
from latentcortex.scoring._centring import BY_BAND, PAIR

DRAWS_AT_ONCE: Final = 500
"""Draws of signs that are multiplied at once."""


@dataclass(frozen=True, eq=False)
class Preference:
    """Each voxel's preferred band and how sure it is; every array is of shape (n_voxels,).

    What is nan where nothing is found is so, too, where r of a half-fit is not defined.

    Parameters
    ----------
    preferred : ndarray
        Row of the band with the highest r, found or not; nan where the voxel is not valid: an r or a p is nan.
    confidence : ndarray
        Fraction of draws in which the preferred band wins again, in [0, 1]; nan where nothing is found.
    p : ndarray
        Simes's p that no band predicts anything; nan where the voxel is not valid.
    found : ndarray of bool
        Whether any band predicts the voxel, by the correction over the voxels' `p`.
    q_values : ndarray
        The smallest q at which the voxel is found; nan where it is not valid.
    threshold : float
        The largest p that is found; 0 if none is.
    n_tests : int
        Valid voxels.
    flat_p : ndarray
        Of the test that all bands predict equally well; nan where nothing is found.
    runner_up_p : ndarray
        Two-sided, of the test that the preferred band and the second best predict equally well; nan where nothing is
        found.
    identifiable : ndarray
        1 where the voxel is found and both tests reject after the correction over the voxels found, 0 where it is
        found and they do not, nan where nothing is found.
    """

    preferred: FloatArray
    confidence: FloatArray
    p: FloatArray
    found: BoolArray
    q_values: FloatArray
    threshold: float
    n_tests: int
    flat_p: FloatArray
    runner_up_p: FloatArray
    identifiable: FloatArray


@one_thread()
def preference(
    y: FloatArray,
    yhat: FloatArray,
    p: FloatArray,
    *,
    q: float = 0.05,
    correction: str = "bh",
    resampling: Resampling | None = None,
    seed: int = 0,
) -> Preference:
    r"""Find the band that predicts each voxel best, and tell where that can be told.

    Where anything is found is decided by the correction over each voxel's Simes p: the p of the best band alone would
    be too small, since it is the best of several. Only there bands are compared.

    *Confidence.* A draw resamples held-out stimuli, whose r is :math:`r_b^*`. With refits it also carries what other
    stimuli to fit on would have changed:

    .. math:: s_b = r_b^* + c (r_{bk} - \bar r_b)

    with :math:`r_{bk}` that of the models fitted to half k, on all held-out stimuli. Halves of a sample vary around
    their mean as much as the whole varies from sample to sample, and their mean, which is lower since they are halves,
    is gone. Half-fits also differ by chance on these few held-out stimuli; c takes that part of their variance out,
    which is in :math:`r_b^*` already, and scales deviations as r falls from the whole to halves, at most by the square
    root of 2, as it does where fits are nearly all noise. Of tied pairs, 4 to 6 % reach a confidence of .975; without
    refits 6 to 18 %.

    *Tests.* The loss of a stimulus is the squared error of the standardised prediction times the larger of r and 0, so
    that mean losses, :math:`1 - r_b^2`, rank bands as r does. The preferred band is compared with the second best by
    flips of sign, two-sided, which is valid although both were chosen by their rank if errors are Gaussian of one
    variance (Hung and Fithian); with refits p is the larger of this one and that of a t test with the variance of
    fitting in it. The flatness test compares the variance of the mean loss over bands with its null, in which the sign
    of all of a stimulus's deviations from its mean over bands flips (labels exchanged within stimuli would take bands
    that resemble each other for independent: 8 to 11 % at .05), with deviations of half-fits added.

    Without refits nothing carries the variance of fitting: results then hold for these fitted models, not for the
    bands.

    Parameters
    ----------
    y : ndarray of shape (n_stimuli, n_voxels)
        Held-out responses.
    yhat : ndarray of shape (n_bands, n_stimuli, n_voxels)
        Predictions of single-band models; at least two bands.
    p : ndarray of shape (n_bands, n_voxels)
        Of each model's r, in [0, 1]; nan is outside the family.
    q : float
        In (0, 1), for all three corrections.
    correction : {"bh", "by", "storey"}
    resampling : Resampling, optional
    seed : int

    Returns
    -------
    Preference

    Raises
    ------
    AlignmentError
        If shapes do not fit together.
    InputError
        If there are fewer than two bands or 5 stimuli or clusters, or p or q is out of range.

    References
    ----------
    Simes (1986), doi:10.1093/biomet/73.3.751; Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x;
    Hung and Fithian, Rank verification for exponential families, doi:10.48550/arXiv.1610.03944
    """
    y, yhat, p = arrays(y=(y, PAIR), yhat=(yhat, BY_BAND), p=(p, "n_bands n_voxels"))
    if len(yhat) < 2:
        raise InputError("A preference is between bands; there is only one.")
    drawn = resampling or Resampling()
    drawn.codes(len(y))
    r = np.stack([correlation(y, band) for band in yhat])
    valid = np.isfinite(r).all(0) & np.isfinite(p).all(0)
    together = np.where(valid, simes_p(p), np.nan)
    voxels = np.flatnonzero(fdr(together, q, correction).rejected)
    of_halves = drawn.refits
    refits = None if of_halves is None else lambda k, chosen: of_halves(k, voxels[chosen])
    contested = np.full((3, y.shape[1]), np.nan)
    contested[:, voxels] = contest(y[:, voxels], yhat[..., voxels], resampling=replace(drawn, refits=refits), seed=seed)
    return decided(r, p, contested, q=q, correction=correction)


def decided(
    r: FloatArray, p: FloatArray, contested: FloatArray, *, q: float = 0.05, correction: str = "bh"
) -> Preference:
    """Decide what `preference` says, once bands were compared wherever any may be found.

    Parameters
    ----------
    r, p : ndarray of shape (n_bands, n_voxels)
        Of each model.
    contested : ndarray of shape (3, n_voxels)
        From `contest`; what it says of voxels in which nothing is found is left out.
    q, correction
        As for `preference`.
    """
    valid = np.isfinite(r).all(0) & np.isfinite(p).all(0)
    together = np.where(valid, simes_p(p), np.nan)
    judged = fdr(together, q, correction)
    confidence, flat, runner_up = np.where(judged.rejected, contested, np.nan)
    both = fdr(flat, q, correction).rejected & fdr(runner_up, q, correction).rejected
    return Preference(
        preferred=np.where(valid, np.where(valid, r, 0).argmax(0), np.nan),
        confidence=confidence,
        p=together,
        found=judged.rejected,
        q_values=judged.q_values,
        threshold=judged.threshold,
        n_tests=judged.n_tests,
        flat_p=flat,
        runner_up_p=runner_up,
        identifiable=np.where(np.isnan(flat) | np.isnan(runner_up), np.nan, both),
    )


@one_thread()
def contest(y: FloatArray, yhat: FloatArray, *, resampling: Resampling, seed: int = 0) -> FloatArray:
    """Compare the bands in voxels that any of them predicts; see `preference`.

    Parameters
    ----------
    y : ndarray of shape (n_stimuli, n_voxels)
    yhat : ndarray of shape (n_bands, n_stimuli, n_voxels)
    resampling : Resampling
        Its refits are asked for voxels by their numbers among these.
    seed : int

    Returns
    -------
    ndarray of shape (3, n_voxels)
        Confidence, p of the flatness test, p of the runner-up test.
    """
    n_voxels = y.shape[1]
    if not n_voxels:
        return np.empty((3, 0))
    r = np.concatenate([np.stack([correlation(y[:, t], band[:, t]) for band in yhat]) for t in tiles(n_voxels)], axis=1)
    bands = _Contest(y, yhat, r, np.arange(n_voxels), resampling.codes(len(y)))
    fitting = None if resampling.refits is None else _fitting(bands, resampling)
    # One tile at a time: each of the steps within takes all processors.
    return np.concatenate(
        [
            _judged(bands, tile, resampling, None if fitting is None else fitting[..., tile], seed=seed)
            for tile in tiles(n_voxels)
        ],
        axis=1,
    )


@dataclass(frozen=True, eq=False)
class _Contest:
    """The bands at the voxels found.

    Parameters
    ----------
    y, yhat, r : ndarray
        Of all voxels.
    found : ndarray of int, shape (n_found,)
    code : ndarray of int, shape (n_stimuli,)
        Cluster of each stimulus.
    """

    y: FloatArray
    yhat: FloatArray
    r: FloatArray
    found: IntArray
    code: IntArray

    def pair(self, tile: slice) -> tuple[IntArray, IntArray]:
        """Find the best and the second best band of some of the voxels found."""
        order = np.argsort(-self.r[:, self.found[tile]], axis=0, kind="stable")
        return order[0], order[1]


def _standard(values: FloatArray) -> FloatArray:
    """Centre and divide by the standard deviation over stimuli, the last axis but one; nan where constant."""
    wide = np.asarray(values, dtype=np.float64)
    wide = wide - wide.mean(-2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(wide / np.sqrt((wide * wide).mean(-2, keepdims=True)))


def _told_apart(predictions: FloatArray) -> FloatArray:
    """Give bands whose predictions differ by rounding only those of the first of them, (n_bands, n_stimuli, n_voxels).

    Else rounding would say which of two layers that are the same is preferred, and how surely.
    """
    for one, other in combinations(range(len(predictions)), 2):
        same = same_predictions(predictions[one], predictions[other])
        predictions[other][:, same] = predictions[one][:, same]
    return predictions


def _of_band(values: NDArray[Any], band: IntArray) -> NDArray[Any]:
    """Take one band for each voxel, (n_bands, n, n_voxels) -> (n, n_voxels)."""
    return np.asarray(values[band, :, np.arange(len(band))].T)


def _lead(y: FloatArray, one: FloatArray, other: FloatArray) -> FloatArray:
    """Compute how much each stimulus adds to r of one prediction less r of another; all standardised."""

    def influence(prediction: FloatArray) -> FloatArray:
        along = y * prediction
        return np.asarray(along - along.mean(0) * (y * y + prediction * prediction) / 2)

    return np.asarray(influence(one) - influence(other))


def _fitting(contest: _Contest, resampling: Resampling) -> FloatArray:
    """Estimate how r varies with the fitted stimuli: deviations of half-fits, (n_refits, n_bands, n_found).

    Their mean over halves is 0; their mean square is the variance of r over fits, less that part of the half-fits'
    variance that comes of few held-out stimuli, which is estimated from the lead of the preferred band.
    """
    n_stimuli, n_found, n_refits = len(contest.y), len(contest.found), resampling.n_refits
    scores = np.empty((n_refits, len(contest.yhat), n_found))
    total, squares = np.zeros((int(contest.code.max()) + 1, n_found), dtype=np.float32), np.zeros(n_found)
    for k in range(n_refits):
        for tile in tiles(n_found):
            voxels = contest.found[tile]
            again = _standard(resampling.refitted(k, voxels, (len(contest.yhat), n_stimuli)))
            y = _standard(contest.y[:, voxels])
            scores[k, :, tile] = (y * again).mean(1)
            lead = cluster_sums(contest.code, _lead(y, *(_of_band(again, band) for band in contest.pair(tile))))
            total[:, tile] += lead
            squares[tile] += (lead * lead).sum(0)
    deviation = np.empty_like(scores)
    for tile in tiles(n_found):
        deviations = scores[..., tile] - scores[..., tile].mean(0)
        deviations *= np.sqrt(n_refits / (n_refits - 1))
        columns = np.arange(deviations.shape[2])
        apart = np.subtract(*(deviations[:, band, columns] for band in contest.pair(tile)))
        chance = halves.chance_variance(squares[tile], total[:, tile], n_refits, n_stimuli)
        whole = contest.r[:, contest.found[tile]].sum(0)
        fall = halves.fall(whole, scores[..., tile].mean(0).sum(0))
        deviation[..., tile] = deviations * np.sqrt(halves.kept(apart, chance)) * fall
    return deviation


def _judged(
    contest: _Contest, tile: slice, resampling: Resampling, fitting: FloatArray | None, *, seed: int
) -> FloatArray:
    """Compute confidence, the flatness test's p and the paired test's p of some of the voxels found, (3, n)."""
    voxels, (best, second) = contest.found[tile], contest.pair(tile)
    columns = np.arange(len(voxels))
    y, predictions = _standard(contest.y[:, voxels]), _told_apart(_standard(contest.yhat[:, :, voxels]))
    gain = np.maximum((y * predictions).mean(1), 0)
    scaled = gain[:, None] * predictions
    # The slope of 1 - r ** 2 takes a deviation of r to one of the mean loss.
    moved = None if fitting is None else -2 * gain * fitting
    flat = _flat_p(contest, (y - scaled) ** 2, moved, resampling.n_permutations, seed=seed)
    one, other = _of_band(scaled, best), _of_band(scaled, second)
    runner_up = paired_difference_p(
        y, one, other, clusters=resampling.clusters, n_permutations=resampling.n_permutations, seed=seed
    )
    if fitting is not None:
        one, other = _of_band(predictions, best), _of_band(predictions, second)
        lead = cluster_sums(contest.code, _lead(y, one, other))
        held_out = halves.held_out_variance(lead, len(y))
        ahead = np.where((lead == 0).all(0), 0, contest.r[best, voxels] - contest.r[second, voxels])
        moved = np.where((lead == 0).all(0), 0, fitting[:, best, columns] - fitting[:, second, columns])
        runner_up = np.maximum(runner_up, halves.welch_p(ahead, held_out, len(lead), moved))
    confidence = _confidence(contest, voxels, best, fitting, resampling.n_draws, seed=seed)
    undefined = np.zeros(len(voxels), dtype=bool) if fitting is None else np.isnan(fitting).any((0, 1))
    return np.where(undefined, np.nan, np.stack([confidence, flat, runner_up]))


def _flat_p(
    contest: _Contest, loss: FloatArray, moved: FloatArray | None, n_permutations: int, *, seed: int
) -> FloatArray:
    """Test whether all bands' mean losses, (n_bands, n_stimuli, n), are equal: variance over bands, +1 rule."""
    differing = np.where(np.ptp(loss, axis=0) == 0, 0, loss - loss.mean(0))
    apart = [cluster_sums(contest.code, band) for band in differing]
    observed = sum((band.sum(0) ** 2 for band in apart), start=np.zeros(loss.shape[2]))
    narrow = [band.astype(np.float32) for band in apart]
    shifts = None if moved is None else ((moved - moved.mean(1, keepdims=True)) * loss.shape[1]).astype(np.float32)

    drawn = signs(len(apart[0]), n_permutations, seed, "flatness")

    def reached(draws: slice) -> FloatArray:
        null = np.zeros((len(drawn[draws]), loss.shape[2]), dtype=np.float32)
        numbers = np.arange(draws.start, draws.stop)
        for number, band in enumerate(narrow):
            total = drawn[draws] @ band
            if shifts is not None:
                total += shifts[numbers % len(shifts), number]
            null += total * total
        return np.asarray(reaches(null, observed, size=observed).sum(0), dtype=np.float64)

    blocks = [slice(i, min(i + DRAWS_AT_ONCE, len(drawn))) for i in range(0, len(drawn), DRAWS_AT_ONCE)]
    count = np.sum(share(reached, blocks), axis=0)
    return np.asarray(np.where(np.isfinite(observed), (count + 1) / (len(drawn) + 1), np.nan))


def _confidence(
    contest: _Contest, voxels: IntArray, best: IntArray, fitting: FloatArray | None, n_draws: int, *, seed: int
) -> FloatArray:
    """Count in which fraction of draws the best band of each voxel wins again."""
    weights = bootstrap_weights(len(contest.code), clusters=contest.code, n_draws=n_draws, seed=seed)
    numbers = np.arange(n_draws)

    def drawn(band: int) -> FloatArray:
        r = weighted_correlation(contest.y[:, voxels], contest.yhat[band][:, voxels], weights)
        r = np.where(np.isnan(r), -np.inf, r)
        return r if fitting is None else r + fitting[numbers % len(fitting), band]

    r = np.stack(share(drawn, range(len(contest.yhat)))).astype(np.float32)  # as correlations are drawn
    top = reaches(r, r.max(0), size=1.0)
    # Bands that draw level, such as two alike, share the win.
    return np.asarray((_of_band(top, best) / np.maximum(top.sum(0), 1)).mean(0))
