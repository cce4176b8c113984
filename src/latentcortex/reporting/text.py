"""The methods text of a report, and what it cites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import latentcortex
from latentcortex.features import Band
from latentcortex.reporting.content import Content

CORRECTIONS: Final = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli", "storey": "Storey"}
"""How each correction that `inference.fdr` knows is called."""


TITLES: Final = {
    "ceiling": "How much any model could explain",
    "latents": "Which latent explains which part of cortex",
    "noise-levels": "Shares of z and z_c, from low to high noise",
    "denoising-steps": "Shares of z and z_c, from early to late denoising",
    "unet-layers": "Preferred U-Net layer, step by step",
    "learning-curve": "Unique shares against the number of fitted stimuli",
    "generalisation": "Scores on stimuli that are unlike the fitted ones",
    "unet-partition": "Shares of the U-Net's layers, fitted jointly",
}
"""What each analysis is called."""


def title_of(band: str) -> str:
    """Say a band's name in words.

    Examples
    --------
    >>> title_of("zc_strength-80_step-100")
    'z_c, strength 80 %'
    >>> title_of("unet_layer-mid_strength-80_step-50")
    'mid, step 50 %'
    """
    parsed = Band.parse(band)
    if parsed.kind == "zc":
        late = "" if parsed.entities["step"] == "100" else f", step {parsed.entities['step']} %"
        return f"z_c, strength {parsed.entities['strength']} %{late}"
    if parsed.kind == "unet":
        return f"{parsed.entities['layer']}, step {parsed.entities['step']} %"
    return band


def number(value: float | None) -> str:
    """Write a number that may not be known.

    Examples
    --------
    >>> number(0.1234), number(None), number(float("nan"))
    ('0.123', 'n/a', 'n/a')
    """
    return "n/a" if value is None or value != value else f"{value:.3f}"


def methods(content: Content) -> list[str]:
    """Write the methods paragraphs; every number comes from the run."""
    facts, settings = content.facts, content.settings
    q, name = f"{settings['inference']['q']:g}", CORRECTIONS[settings["inference"]["correction"]]
    z = {"session": "within sessions", "run": "within runs", "none": ""}[settings["responses"]["zscore"]]
    scored = f"z-scored {z} with the statistics of training rows" if z else "not z-scored"
    first = (
        f"Responses of participant {content.participant} ({facts['n_trials']} trials in {facts['n_sessions']} "
        f"sessions, {facts['n_voxels']} voxels of which {facts['n_valid']} were valid) were {scored}, and repeats "
        "of a stimulus were averaged and weighted by their number."
    )
    solver = {"himalaya": "himalaya's random search, called from "}.get(settings["estimator"]["name"], "")
    n_dims = settings["analyses"]["n_dims"]
    reduced = f" Wider bands were reduced to {n_dims} principal components of the training stimuli." if n_dims else ""
    second = (
        f"{_features(content.made_by)}{reduced} Feature columns were centred on training stimuli and bands "
        "scaled to equal mean kernel diagonal. Voxel-wise encoding models were fitted by banded ridge regression, with "
        "the penalty and the mixture of bands chosen for each voxel within the training stimuli (Dupré la Tour et al., "
        "2022), as "
        f"implemented in {solver}latentcortex {latentcortex.__version__}."
    )
    n_folds = settings["splits"]["cross_validation"]
    tested = content.maps.find(statistic="p").columns
    of_models = ~tested["model"].str.startswith("layers_") & ~tested["analysis"].str.startswith("generalisation-")
    null = "; ".join(dict.fromkeys(tested.loc[of_models, "null"])) if of_models.any() else ""
    if n_folds:
        third = (
            f"Predictions were pooled over {n_folds} folds that never share an image; one-sided p-values came from "
            f"{null}."
        )
    else:
        third = (
            f"Models were fitted on {facts['n_train']} stimuli and scored by the Pearson correlation with averaged "
            f"responses to {facts['n_test']} held-out stimuli."
        )
        third += f" One-sided p-values came from the null of {null}." if null else ""
    family = {
        "map": "for each map over all its valid voxels",
        "hierarchical": "for the maps of an analysis first, and over the valid voxels of those with discoveries",
    }[settings["inference"]["family"]]
    third += f" The false discovery rate was controlled at q = {q} ({name}) {family}." if null else ""
    if (content.maps.columns["statistic"] == "shareR2").any():
        third += " The variance explained by joint models was split between bands by the product measure."
    if (content.maps.columns["statistic"] == "uniqueR2").any():
        third += (
            " The unique share of a band is what the joint model lost when it was refitted without it, with penalties "
            "of its own; it was tested by flipping the signs of the differences of squared error over test stimuli."
        )
    return [first, second, third, *_more(content)]


def _features(made_by: Mapping[str, Any]) -> str:
    """Write what made the features, and how much of them hangs on the noise that was drawn."""
    left_out = ("name", "bands", "weights", "shapes", "seed_reliability")
    made = ", ".join(f"{key}: {value}" for key, value in made_by.items() if key not in left_out)
    reliable = made_by.get("seed_reliability", {}).values()
    if not reliable:
        return f"Features came from the extractor {made_by['name']} ({made})."
    return (
        f"Features came from the extractor {made_by['name']} ({made}), those that depend on noise averaged over "
        f"{made_by['n_seeds']} draws; {min(reliable):.0%} to {max(reliable):.0%} of a band's variance did not depend "
        "on the draws."
    )


def _more(content: Content) -> list[str]:
    """Write what was done about splits and preferences beyond the tests of single maps."""
    there, said = set(content.maps.columns["statistic"]), ""
    if any(name.startswith("generalisation-") for name in content.maps.columns["analysis"]):
        said += (
            " For the profile of generalisation all stimuli were split anew: at random, by whole clusters, whose signs "
            "were flipped for p-values, and with the stimuli farthest from all others held out."
        )
    if "identifiability" in there:
        said += (
            " The reliability of shares between halves of the stimuli was predicted for every voxel by drawing "
            "responses from the fitted model's Gaussian process; where no band's was expected to reach one third, "
            "shares are drawn grey."
        )
    if "preferred" in there:
        n_refits = content.maps.find(statistic="confidence").columns["n_refits"].max()
        said += (
            " Whether any U-Net layer predicts a voxel was decided by Simes's test across layers; the preferred layer "
            "was compared with the second best by flips of the signs of their losses, and all layers with each other, "
            f"with the variance of fitting from {n_refits:.0f} fits to random halves of the training stimuli."
        )
    if "n_twin" in content.maps.columns and content.maps.columns["n_twin"].notna().any():
        said += " The same analyses of a participant whose responses were exchanged among stimuli say how many voxels "
        said += "are found by chance."
    return [said.strip()] if said else []


REFERENCES: Final = (
    "Benjamini, Y., & Hochberg, Y. (1995). Controlling the false discovery rate. Journal of the Royal Statistical "
    "Society B. doi:10.1111/j.2517-6161.1995.tb02031.x",
    "Dupré la Tour, T., Eickenberg, M., Nunez-Elizalde, A. O., & Gallant, J. L. (2022). Feature-space selection with "
    "banded ridge regression. NeuroImage. doi:10.1016/j.neuroimage.2022.119728",
    "Takagi, Y., & Nishimoto, S. (2023). High-resolution image reconstruction with latent diffusion models from "
    "human brain activity. CVPR. doi:10.1109/CVPR52729.2023.01389",
)
