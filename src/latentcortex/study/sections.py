"""The sections of a study file whose keys are always the same: types, ranges, defaults and what each key means."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from annotated_types import Ge, Gt, Interval, Len, Lt, MultipleOf
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from latentcortex import analyses, checking, decoding, evaluation, executors, plotting
from latentcortex._arrays import TILE
from latentcortex._ranges import Count, Distinct, NoEffect, OneOf, PositiveCount, ZeroOr
from latentcortex._shelf.picking import FromShelf
from latentcortex._shelf.signatures import STRICT, Chosen
from latentcortex.encoding import SHARES
from latentcortex.encoding.criterion import FAMILIES, NULLS, SHARE_TESTS
from latentcortex.errors import InputError
from latentcortex.inference.corrections import PROCEDURES
from latentcortex.reporting.figures import Choices
from latentcortex.reporting.viewer import VIEWERS, viewer_of
from latentcortex.splits import UNITS

LIST: Final = Field(strict=False)
"""A list of a file, kept as a tuple."""


def _checked_viewer(asked: Any) -> Any:
    viewer_of(asked)
    return asked


def _checked_regions(asked: Any) -> Any:
    if not isinstance(asked, (str, dict)):
        raise InputError(f"`rois` in [decoding] must be a preset or a table; got {asked!r}.")
    decoding.regions_of(asked)
    return asked


class Section(BaseModel):
    """Keys of one section."""

    model_config = ConfigDict(**STRICT, use_attribute_docstrings=True)


class ResponsesSettings(Section):
    """How single-trial responses are prepared."""

    zscore: Literal["session", "run", "none"] = "session"
    """Within what each voxel is z-scored. The mean and standard deviation are those of training rows; a session or run
    that is held out whole has its own."""


class SplitsSettings(Section):
    """Which stimuli models are fitted to, and which they are tested on."""

    test: Literal["split", "far"] = "split"
    """What the test set is: `split`, as the column of trials.tsv says; `far`, the tenth of the stimuli that is farthest
    from all others."""
    cross_validation: Annotated[int, Ge(0), ZeroOr(2, "a test set")] = 0
    """Number of folds, each held out once; 0 to predict a test set."""
    unit: Annotated[str, OneOf(UNITS)] = "stimulus"
    """What folds hold out as a whole."""
    embedding: str = ""
    """Band in which stimuli are near or far, for `far` and for clusters; by default `c`, or the first band."""
    n_clusters: Annotated[int, Ge(25)] = 50
    """Clusters of stimuli; at least 25, so that a fifth of them can be flipped."""

    @property
    def across_folds(self) -> bool:
        """Whether every stimulus is predicted by a fit to the other folds, in place of one test set."""
        return self.cross_validation > 0

    @property
    def by_embedding(self) -> bool:
        """Whether sides are chosen by distances in a band, and so are known only once it is extracted."""
        return self.unit == "cluster" or self.test == "far"


class AnalysesSettings(Section):
    """Which models are fitted, and how what they predict is shared between their bands."""

    run: Annotated[tuple[Annotated[str, OneOf(analyses.SHELF, "analysis")], ...], LIST, Len(1), Distinct()] = (
        analyses.CANONICAL
    )
    """Names of analyses."""
    shares: Annotated[tuple[Annotated[str, OneOf(SHARES, "share")], ...], LIST, Len(1), Distinct()] = ("product",)
    """How the score of several bands is shared between them. All but `product` refit nested models, and need a test
    set."""
    n_dims: Count = 0
    """Reduce wider bands to so many principal components of the training stimuli (6,400 in Takagi and Nishimoto, 2023);
    0 for none."""


class InferenceSettings(Section):
    """Which voxels are significant."""

    q: Annotated[float, Gt(0), Lt(1)] = 0.05
    """False discovery rate."""
    correction: Annotated[str, OneOf(PROCEDURES, "correction")] = "bh"
    """Benjamini-Hochberg; Benjamini-Yekutieli, under any dependence; or Storey's, for independent voxels: where voxels
    share noise, .13 of what it finds at q = .05 is false."""
    family: Annotated[str, OneOf(FAMILIES, "family")] = "map"
    """Each map is corrected alone, or (`hierarchical`) maps of an analysis are chosen first, then voxels in them."""
    null: Annotated[str, OneOf(NULLS, "null")] = "auto"
    """Null distribution of a prediction without signal; `auto` fits the design."""
    n_permutations: PositiveCount = 1000
    """Permutations, shifts or flips of sign of the nulls that have them."""
    share: Annotated[str, OneOf(SHARE_TESTS, "test of a unique share")] = "gain"
    """How unique shares are tested: `gain` asks whether the band helps to predict, fitted to as many stimuli;
    `freedman-lane` whether it is more than a linear function of the others, and needs more stimuli than columns."""
    n_refits: Annotated[int, Ge(0), ZeroOr(5, "none")] = 20
    """Fits to halves of the training stimuli, for the variance of fitting in differences, unique shares and preferred
    layers; with 0 these hold for the fitted models only."""
    identifiability: bool = True
    """Whether the reliability of shares is predicted, in one to five times the time of the fit."""
    twin: bool = False
    """Whether a shuffled control is fitted, too: how many discoveries are expected to be false."""


class CheckSettings(Section):
    """What `latentcortex check` lets pass."""

    allow: Annotated[tuple[Annotated[str, OneOf(checking.RULES, "rule")], ...], LIST, Distinct()] = ()
    """Rules that this study may break; the report says so."""


class ReportSettings(Section):
    """What the report shows. No number depends on `figures`, `width_mm`, `format` and `viewer`."""

    atlas: str = ""
    """Regions: the name of an atlas, a folder with one, or, of a subject's own cortex, `overlays` (pycortex) or `aparc`
    (FreeSurfer); of a dataset with regions of its own also the name of these, of `nsd` such as `streams` and
    `prf-visualrois`; `voxels` are those that a table lists by voxel, where positions are unknown. None by default."""
    mask: Literal["own", "joint"] = "own"
    """Where shares are drawn: where they are significant themselves, if unique shares are computed, or where the joint
    model is."""
    figures: Annotated[
        tuple[Annotated[str, OneOf(Choices(), "figure in [report]:")], ...],
        LIST,
        Len(1),
        Distinct(),
        NoEffect,
    ] = ("default",)
    """Names of figures, or sets of them."""
    width_mm: Annotated[float, Interval(ge=60, le=600), NoEffect] = 180.0
    """Width of figures in print, at most, millimetres; 85 is a column, 180 a page."""
    format: Annotated[str, OneOf(plotting.FORMATS), NoEffect] = "png"
    """Of the figures' files; the page itself keeps PNG."""
    viewer: Annotated[bool | Annotated[str, OneOf(VIEWERS)], BeforeValidator(_checked_viewer), NoEffect] = False
    """A page beside the report with the maps on cortex that can be turned: `light` (needs plotly), `webgl` or true
    (needs pycortex)."""


class DecodingSettings(Section):
    """How features are decoded from responses; with this section a run of all stages decodes and reconstructs."""

    rois: Annotated[
        Annotated[str, OneOf(("", *decoding.ROIS))] | dict[str, list[str]], BeforeValidator(_checked_regions)
    ] = ""
    """Regions from which each band is decoded: a preset, or a table such as {z = ["early"], c = ["ventral"]}; all
    voxels by default."""
    bands: Annotated[tuple[str, ...], LIST, Distinct()] = ()
    """Bands that are decoded; by default those of `rois`, or z and c."""
    n_voxels: Count = 0
    """Voxels per band, chosen within the training stimuli; 0 is all."""


class EvaluationSettings(Section):
    """How reconstructions are scored."""

    n_images: Annotated[int, Ge(0), ZeroOr(2, "all")] = 0
    """Test stimuli that are reconstructed, the first ones of the table; 0 is all."""
    metrics: Annotated[tuple[Annotated[str, OneOf(evaluation.SHELF, "metric")], ...], LIST, Len(1), Distinct()] = (
        evaluation.CANONICAL
    )
    """By what images are compared and identified; of the default ones those that the dataset has what they need for."""
    category: str = ""
    """Column of the stimuli's table within whose values images are identified, too; none by default."""
    n_bootstrap: PositiveCount = 1000
    """Resamples of images for intervals."""


class RunSettings(Section):
    """How a study is computed. No number of any result depends on these keys, but for `seed`."""

    seed: Count = 0
    """From which every random draw follows."""
    out: str = ""
    """Folder for results, unless the command line names one."""
    executor: Annotated[Chosen, FromShelf(executors.SHELF, ("threads",), key="executor")] = Field(
        default={"name": "threads"}, validate_default=True
    )
    """Where the cells of a study, each a participant's model in a chunk of voxels, are computed side by side."""
    n_workers: Count = 0
    """Cells that are computed at the same time; 0 for as many as there are cores."""
    chunk_voxels: Annotated[int, Ge(0), MultipleOf(TILE)] = 8 * TILE
    """Voxels of a cell; more need more memory, and fewer lose less when a run is killed. 0 is all."""
    scratch_gb: Annotated[float, Ge(0)] = 10.0
    """Room on disk for decompositions that are kept until the study is done, GB; the oldest make way."""
