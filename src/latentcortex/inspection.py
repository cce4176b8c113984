"""What a fitted encoder says of one voxel, on one page."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from latentcortex import plotting, scoring
from latentcortex._arrays import whole_number
from latentcortex.encoding import Encoder
from latentcortex.errors import InputError
from latentcortex.features import Features
from latentcortex.reporting.titles import number, title_of
from latentcortex.responses import Responses
from latentcortex.space import Atlas, Space
from latentcortex.stimuli import Stimuli


def inspect_voxel(
    encoder: Encoder,
    features: Features,
    test: Responses,
    voxel: int,
    *,
    stimuli: Stimuli | None = None,
    atlas: Atlas | None = None,
    n_images: int = 5,
    style: plotting.Style = plotting.PAGE,
) -> Figure:
    """Draw one voxel of a fitted encoder on one page.

    Parameters
    ----------
    encoder : Encoder
        Fitted.
    features : Features
        As for `Encoder.score`.
    test : Responses
        Of stimuli that were not fitted on; single trials give a noise ceiling.
    voxel : int
        Its number in the responses, from 0.
    stimuli : Stimuli, optional
        Draws the images with the highest and lowest responses; without them their ids are listed.
    atlas : Atlas, optional
        Names the region of a vertex.
    n_images : int
        Stimuli at each end.
    style : Style

    Returns
    -------
    Figure
        Measured against predicted responses of the test stimuli (the line has a slope of 1 through both means); r, R²,
        noise ceiling, penalty and what the model explained in cross-validation; each band's product share and its
        weight in the mixture of kernels; the stimuli at both ends with measured and, in brackets, predicted response.

    Raises
    ------
    InputError
        If there is no such voxel, it is not valid, or a test stimulus was fitted on.
    AlignmentError
        If a stimulus has no features or no image.
    """
    place = whole_number("voxel", voxel, least=0)
    if place >= test.space.n_voxels:
        raise InputError(f"There is no voxel {place}: the responses have {test.space.n_voxels}, counted from 0.")
    least_images = whole_number("n_images", n_images, least=1)
    only = np.arange(test.space.n_voxels) == place
    own, here = test.select_voxels(only), slice(place, place + 1)
    title = _title(test.space, place, atlas)
    if not own.valid()[0]:
        raise InputError(f"{title} is not valid: its test responses have a nan or do not vary.")
    held_out = encoder.predict_held_out(features, test, voxels=here)
    shares = scoring.product_shares(held_out.y, held_out.yhat_bands)[:, 0]
    model = encoder.model.estimator
    facts = {
        "r": number(float(held_out.r[0])),
        "R²": number(float(scoring.r2(held_out.y, held_out.yhat)[0])),
        "noise ceiling (R²)": _ceiling(own),
        "test stimuli": str(len(held_out.y)),
        "fitted stimuli": str(len(encoder.model.ids)),
        "penalty (alpha)": f"{model.alphas_[place]:.3g}",
        "R² in cross-validation": number(float(model.cv_scores_[place])),
    }
    averaged = own.averaged()
    page = plotting.Voxel(
        title,
        averaged.ids,
        held_out.y[:, 0],
        held_out.yhat[:, 0],
        facts,
        [title_of(band).replace(", ", "\n", 1) for band in encoder.bands],
        model.mixtures_[:, place],
        shares,
    )
    if stimuli is not None:
        wanted = [page.ids[i] for end in page.ends(least_images) for i in end]
        pictures = dict(zip(wanted, stimuli.select_stimuli(wanted).images(wanted), strict=True))
        page = plotting.Voxel(**{**vars(page), "images": pictures})
    return plotting.voxel_page(page, n_images=least_images, style=style)


def _title(space: Space, voxel: int, atlas: Atlas | None) -> str:
    region = "" if atlas is None else atlas.names.get(int(space.take(atlas.labels)[voxel]), "")
    return ", ".join(part for part in (f"Voxel {voxel}{space.where(voxel)}", region) if part)


def _ceiling(own: Responses) -> str:
    """Estimate the noise ceiling from repeats."""
    if len(own.rows) == len(own.ids):
        return "n/a (no repeats)"
    counts = np.asarray(own.rows.groupby("stimulus", sort=False).size(), dtype=np.float64)
    return number(float(scoring.noise_ceiling(own.repeats(), n_averaged=counts)[0]))
