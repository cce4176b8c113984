"""Ridge with one penalty for all bands of a model: the simplest case of banded ridge, and a published one."""

from __future__ import annotations

from typing import Final, Literal

from latentcortex._ranges import Alphas, Count, FoldCount
from latentcortex.estimators.banded_ridge import ALPHAS, BandedRidge

RELEASED_ALPHAS: Final = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RELEASED: Final = (
    "Its penalties and the lack of an intercept are those of the code that was released with @takagi2023; unlike "
    "there, features were not divided by their standard deviations, and repeats of a stimulus shared a fold."
)
"""What a methods section says of that code's settings."""


def ridge(
    *,
    alphas: Alphas = ALPHAS,
    scale: Literal["trace"] | None = "trace",
    selection: Literal["auto", "gcv", "loo", "kfold"] = "auto",
    cv: FoldCount = 5,
    refine: bool = True,
    fit_intercept: bool = True,
    backend: Literal["auto", "numpy", "torch", "cuda", "mps"] = "auto",
    seed: Count = 0,
) -> BandedRidge:
    """Make ridge with one penalty per voxel for all bands together, as if they were one.

    Parameters are those of `BandedRidge`.
    """
    return BandedRidge(
        alphas, "equal", scale, selection, cv=cv, refine=refine, fit_intercept=fit_intercept, backend=backend, seed=seed
    )


def takagi2023_released(*, cv: FoldCount = 5, seed: Count = 0) -> BandedRidge:
    """Make the ridge of the code that was released with Takagi and Nishimoto (2023).

    No intercept, penalties from 1e-6 to 1 of bands as they are, chosen by k-fold cross-validation. With many rows
    such penalties shrink next to nothing, and without an intercept the mean of the responses is not predicted:
    use it to reproduce, and `BandedRidge` to analyse. Two things differ from that code: features are centred but not
    divided by their standard deviations column by column (do so before, if they are arrays), and folds are drawn and
    keep repeats together instead of being blocks of trials.

    Parameters
    ----------
    cv : int
        Folds.
    seed : int
        For the folds.

    References
    ----------
    Takagi and Nishimoto (2023), doi:10.1109/CVPR52729.2023.01389
    """
    model = BandedRidge(RELEASED_ALPHAS, "equal", None, "kfold", cv=cv, refine=False, fit_intercept=False, seed=seed)
    model.remark = RELEASED
    return model
