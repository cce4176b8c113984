"""The methods text of a report, and what it cites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import latentcortex
from latentcortex import estimators
from latentcortex.features import Band
from latentcortex.maps import Maps
from latentcortex.reporting.content import Content
from latentcortex.statistics import (
    CEILING,
    CONFIDENCE,
    DIFFERENCE,
    IDENTIFIABILITY,
    PREFERRED,
    PRODUCT_SHARE,
    UNIQUE_LIMIT,
    UNIQUE_SHARE,
)

LEAST_BIAS: Final = 0.005
"""Pooled r that lies so far below 0 without signal is said to be biased."""
CORRECTIONS: Final = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli", "storey": "Storey"}
"""How each correction that `inference.fdr` knows is called."""


def title_of(band: str) -> str:
    """Say a band's name in words.

    Examples
    --------
    >>> title_of("zc_strength-80_step-100")
    'z_c, strength 80 %'
    >>> title_of("unet_layer-mid_strength-80_step-50")
    'mid, step 50 %'
    >>> title_of("dit_layer-block12_strength-80_step-50")
    'block12, step 50 %'
    """
    parsed = Band.parse(band)
    if not {"strength", "step"} <= set(parsed.entities):  # a latent, or a name of one's own
        return band
    if parsed.kind == "zc":
        late = "" if parsed.entities["step"] == "100" else f", step {parsed.entities['step']} %"
        return f"z_c, strength {parsed.entities['strength']} %{late}"
    if parsed.kind in ("unet", "dit") and "layer" in parsed.entities:
        strong = "" if parsed.entities["strength"] == "80" else f", strength {parsed.entities['strength']} %"
        return f"{parsed.entities['layer']}{strong}, step {parsed.entities['step']} %"
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
    return [_responses(content), _models(content), _tests(content), *_more(content)]


def _responses(content: Content) -> str:
    facts, zscore = content.facts, content.settings["responses"]["zscore"]
    z = {"session": "within sessions", "run": "within runs", "none": ""}[zscore]
    scored = f"z-scored {z} with the statistics of training rows" if z else "not z-scored"
    if facts.get("held_out", {}).get(zscore):
        scored += f" ({zscore}s without any with their own, so that differences between their means are not tested)"
    repeats = ", and repeats of a stimulus were averaged and weighted by their number" if _repeated(facts) else ""
    told = content.maps.space.told
    return (
        f"Responses of participant {content.participant} ({facts['n_trials']} trials in {facts['n_sessions']} "
        f"sessions, {facts['n_voxels']} voxels of which {facts['n_valid']} were valid) were {scored}{repeats}."
        f"{' ' if told else ''}{told}{_regions(content)}"
    )


def _regions(content: Content) -> str:
    """Name the atlas, and say how regions that are given on cortex came to voxels."""
    if content.atlas is None:
        return ""
    given = ", given on cortex: a voxel has the region that most vertices have which meet it"
    return f" Regions are those of the atlas {content.atlas.name}{given if content.atlas.vertices is not None else ''}."


def _repeated(facts: Mapping[str, Any]) -> bool:
    """Tell whether any stimulus was shown more than once."""
    return bool(facts["n_trials"] > facts.get("n_stimuli", facts.get("n_train", 0) + facts.get("n_test", 0)))


def _models(content: Content) -> str:
    settings = content.settings
    n_dims = settings["analyses"]["n_dims"]
    reduced = f" Wider bands were reduced to {n_dims} principal components of the training stimuli." if n_dims else ""
    joint = content.maps.columns["model"].str.contains("+", regex=False).any()
    return f"{_features(content.made_by)}{reduced} {_estimator(settings['estimator'], joint=bool(joint))}"


def _estimator(given: Mapping[str, Any], *, joint: bool) -> str:
    """Let the estimator of a study say what it does; one that cannot is named with its arguments."""
    arguments = {key: value for key, value in given.items() if key != "name"}
    estimator, version = estimators.make(given["name"], **arguments), f"latentcortex {latentcortex.__version__}"
    if isinstance(estimator, estimators.Told):
        return f"{estimator.told(joint=joint)} {version}."
    said = f" ({', '.join(f'{key}: {value}' for key, value in arguments.items())})" if arguments else ""
    return f"Voxel-wise encoding models were fitted by the estimator {given['name']}{said}, called from {version}."


def _tests(content: Content) -> str:
    facts, settings, statistics = content.facts, content.settings, set(content.maps.columns["statistic"])
    q, name = f"{settings['inference']['q']:g}", CORRECTIONS[settings["inference"]["correction"]]
    tested = content.maps.find(statistic="p").columns
    of_models = ~tested["model"].str.startswith("layers_") & ~tested["analysis"].str.startswith("generalisation-")
    null = "; ".join(dict.fromkeys(tested.loc[of_models, "null"])) if of_models.any() else ""
    averaged = "averaged responses" if _repeated(facts) else "responses"
    if settings["splits"]["cross_validation"]:
        said = (
            f"Predictions were pooled over {settings['splits']['cross_validation']} folds that {_held_out(content)}; "
        )
        said += f"one-sided p-values came from {null}.{said_of_pooled(content.maps)}"
    else:
        said = (
            f"Models were fitted on {facts['n_train']} stimuli and scored by the Pearson correlation with {averaged} "
        )
        said += f"to {facts['n_test']} held-out stimuli{_far(content)}."
        said += f" One-sided p-values came from the null of {null}." if null else ""
    family = {
        "map": "for each map over all its valid voxels",
        "hierarchical": "for the maps of an analysis first, and over the valid voxels of those with discoveries",
    }[settings["inference"]["family"]]
    said += f" The false discovery rate was controlled at q = {q} ({name}) {family}." if null else ""
    if null and settings["inference"]["correction"] == "storey":
        said += (
            " Storey's procedure keeps that rate for independent voxels; where voxels share noise more discoveries are "
            "false (.13 at q = .05 where they share half of it)."
        )
    if CEILING.name in statistics:
        said += (
            " The noise ceiling is the fraction of variance of the averaged test responses that is signal, estimated "
            "from the variance over the repeats of each stimulus."
        )
        (ceiling,) = content.maps.find(statistic=CEILING.name).columns.to_dict("records")
        if ceiling.get("n_within_run", 0) > 0:
            said += (
                f" {ceiling['n_within_run']:.0f} stimuli were repeated within a run; noise that such repeats share "
                "counts as signal, and the ceiling is too high by it."
            )
    if PRODUCT_SHARE.name in statistics:
        said += " The variance explained by joint models was split between bands by the product measure."
    if DIFFERENCE.name in statistics:
        said += (
            " Every two latents were compared where Simes's test across both found either, by the differences of their "
            "squared errors over test stimuli: by flipping their signs, two-sided"
            f"{_fitting(content, 'differenceP')}; the false discovery rate was controlled for each pair's map, over "
            "all valid voxels."
        )
    if UNIQUE_SHARE.name in statistics:
        said += (
            " The unique share of a band is what the joint model lost when it was refitted without it, with penalties "
            f"of its own; it was tested where the joint model was significant, {_share_test(content)}. Both are about "
            "the means over test stimuli: a shift of the baseline of the test set is no share."
        )
    return said


def said_of_pooled(maps: Maps) -> str:
    """Say where r that is pooled over folds lies without signal; nothing where none is."""
    medians = [value for value in maps.columns.get("null_median", ()) if value == value]
    if not medians:
        return ""
    ends = " to ".join(dict.fromkeys(f"{end:.2f}" for end in (min(medians), max(medians))))
    known = "p-values account for it, since every permutation is pooled alike; r itself is not corrected"
    if max(medians) > -LEAST_BIAS:
        return f" Without signal, pooled r lies at {ends} (median over permutations and voxels); {known}."
    return (
        " Where nothing is predicted, r pooled over folds lies below 0, since the mean response that a fold is "
        "predicted with is that of the others, which is low where the fold's is high: here at "
        f"{ends} (median over permutations and voxels). {known}, and understates how well weak voxels "
        "are predicted."
    )


def _fitting(content: Content, statistic: str) -> str:
    """Say how the variance of fitting came into a comparison of models, if it did."""
    columns = content.maps.find(statistic=statistic).columns
    n_refits = columns["n_refits"].max() if "n_refits" in columns else 0
    if not n_refits > 0:
        return ", which holds for these fitted models only"
    halves = f"{n_refits:.0f} fits to random halves of the training stimuli"
    return f", and by a t test with the variance of fitting from {halves}"


def _share_test(content: Content) -> str:
    """Say how unique shares were tested, and of which null."""
    if content.settings["inference"].get("share", "gain") == "freedman-lane":
        return (
            "by permuting what the other bands leave of the responses and fitting again (Freedman and Lane 1983, "
            "doi:10.1080/07350015.1983.10509354): the null is that the response is a linear function of the other "
            "bands plus noise"
        )
    return (
        "by flipping the signs of the differences of squared error over test stimuli"
        f"{_fitting(content, 'uniqueP')}: the null is that the band does not help to predict after a fit to as many "
        "stimuli"
    )


def _embedding(content: Content) -> str:
    """Name the band in which stimuli are near or far."""
    bands = list(content.made_by.get("dims", {}))
    return str(content.settings["splits"]["embedding"] or ("c" if "c" in bands else (bands or ["the first band"])[0]))


def _held_out(content: Content) -> str:
    splits = content.settings["splits"]
    if splits["unit"] in ("session", "run"):
        return f"hold out whole {splits['unit']}s"
    if splits["unit"] == "cluster":
        return f"hold out whole clusters of stimuli (k-means of {_embedding(content)}, {splits['n_clusters']} clusters)"
    return "keep together images that are equal or look alike, and stimuli with nearly equal features"


def _far(content: Content) -> str:
    if content.settings["splits"]["test"] != "far":
        return ""
    return f", the tenth of all that is farthest from the others in {_embedding(content)}"


def _features(made_by: Mapping[str, Any]) -> str:
    """Write what made the features, and how much of them hangs on the noise that was drawn."""
    left_out = ("name", "model", "bands", "weights", "shapes", "seed_reliability", "dims")
    made = ", ".join(f"{key}: {value}" for key, value in made_by.items() if key not in left_out)
    source = f"the extractor {made_by['name']}" + (f" with the model {made_by['model']}" if "model" in made_by else "")
    reliable = made_by.get("seed_reliability", {}).values()
    if not reliable:
        return f"Features came from {source} ({made})."
    return (
        f"Features came from {source} ({made}), those that depend on noise averaged over "
        f"{made_by['n_seeds']} draws; {min(reliable):.0%} to {max(reliable):.0%} of a band's variance did not depend "
        "on the draws."
    )


def _more(content: Content) -> list[str]:
    """Write what was done about splits and preferences beyond the tests of single maps."""
    there = set(content.maps.columns["statistic"])
    said = "".join(f" {words['methods']}" for words in content.analyses.values() if words["methods"])
    if IDENTIFIABILITY.name in there:
        said += (
            " The reliability of shares between halves of the stimuli was predicted for every voxel by drawing "
            "responses from the fitted model's Gaussian process; where no band's was expected to reach one third, "
            "shares are drawn grey."
        )
    if PREFERRED.name in there:
        n_refits = content.maps.find(statistic=CONFIDENCE.name).columns["n_refits"].max()
        said += (
            " Whether any layer predicts a voxel was decided by Simes's test across layers; the preferred layer "
            "was compared with the second best by flips of the signs of their losses, and all layers with each other"
            + (
                f", with the variance of fitting from {n_refits:.0f} fits to random halves of the training stimuli."
                if n_refits > 0
                else ", as they were fitted: nothing was fitted to halves of the training stimuli."
            )
        )
    if UNIQUE_LIMIT.name in there:
        said += (
            " Unique shares were also scored after fits to fewer stimuli, and extrapolated to unlimited ones by power "
            "laws with exponents of 1/2, 1 and 2, where the curve of their mean falls and has begun to level off."
        )
    said += _control(content)
    return [said.strip()] if said else []


def _control(content: Content) -> str:
    """Write how many discoveries are expected to be false, and by which shuffles that is known."""
    columns = content.maps.columns
    if "n_false" not in columns or not columns["n_false"].notna().any():
        return ""
    n_shuffles = columns.loc[columns["n_false"].notna(), "n_shuffles"].max()
    if content.settings["splits"]["cross_validation"]:
        control, more = f"each of {n_shuffles:.0f} permutations, judged by the others", ""
    else:
        control = "the same analysis of responses that were exchanged among stimuli, within training and within test"
        more = f"; {n_shuffles - 1:.0f} further orders of its test stimuli gave the interval" if n_shuffles > 1 else ""
    return (
        f" How many significant voxels are expected without any relation of stimuli and responses was estimated from "
        f"{control}: voxels of that control with p at most the threshold of the map, times the fraction of voxels "
        f"without a relation, which is that of voxels with p above one half in the map and in the control (Storey, "
        f"2002, doi:10.1111/1467-9868.00346){more}."
    )


@dataclass(frozen=True)
class Reference:
    """Something to cite.

    Parameters
    ----------
    key : str
        Of BibTeX.
    authors : tuple of str
        `Family, Given` each.
    year : int
    title, venue, doi : str
    kind : {"article", "inproceedings", "software"}
    """

    key: str
    authors: tuple[str, ...]
    year: int
    title: str
    venue: str
    doi: str = ""
    kind: str = "article"

    def __str__(self) -> str:
        """Write it as a list of references does."""
        *first, last = self.authors
        joined = f"{', '.join(first)}, & {last}" if first else last
        place = f" {self.venue}." if self.venue else ""
        return f"{joined} ({self.year}). {self.title}.{place}" + (f" doi:{self.doi}" if self.doi else "")

    @property
    def bibtex(self) -> str:
        """Write it for BibTeX."""
        where = {"article": "journal", "inproceedings": "booktitle"}.get(self.kind, "note")
        fields = {"author": " and ".join(self.authors), "year": str(self.year), "title": f"{{{self.title}}}"}
        fields |= {where: self.venue, "doi": self.doi}
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        kind = "misc" if self.kind == "software" else self.kind
        return "\n".join([f"@{kind}{{{self.key},", *lines, "}", ""])


REFERENCES: Final = (
    Reference(
        "benjamini1995",
        ("Benjamini, Y.", "Hochberg, Y."),
        1995,
        "Controlling the false discovery rate: A practical and powerful approach to multiple testing",
        "Journal of the Royal Statistical Society B",
        "10.1111/j.2517-6161.1995.tb02031.x",
    ),
    Reference(
        "duprelatour2022",
        ("Dupré la Tour, T.", "Eickenberg, M.", "Nunez-Elizalde, A. O.", "Gallant, J. L."),
        2022,
        "Feature-space selection with banded ridge regression",
        "NeuroImage",
        "10.1016/j.neuroimage.2022.119728",
    ),
    Reference(
        "takagi2023",
        ("Takagi, Y.", "Nishimoto, S."),
        2023,
        "High-resolution image reconstruction with latent diffusion models from human brain activity",
        "Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        "10.1109/CVPR52729.2023.01389",
        "inproceedings",
    ),
)


def references(made_by: Mapping[str, Any]) -> tuple[Reference, ...]:
    """List what a report cites, by what made its features."""
    return tuple(one for one in REFERENCES if one.key != "takagi2023" or made_by["name"] == "ldm")


SOFTWARE: Final = Reference(
    "latentcortex",
    ("The latentcortex developers",),
    2026,
    f"latentcortex (version {latentcortex.__version__})",
    "Computer software",
    kind="software",
)
"""How to cite the package."""
