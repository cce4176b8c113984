"""The linter of designs: what would flatter a result or break its p-values, found before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import numpy as np
from scipy import stats

from latentcortex import inference
from latentcortex._arrays import BoolArray, FloatArray, in_threads, listed
from latentcortex._copies import copies
from latentcortex._shelf import unknown
from latentcortex.encoding import Criterion, is_series
from latentcortex.encoding.criterion import MOST_VOXELS
from latentcortex.errors import InputError
from latentcortex.features import Features
from latentcortex.responses import MIN_TRAIN_ROWS, Responses, Within
from latentcortex.stimuli import Look

logger = logging.getLogger(__name__)

Pairs = list[tuple[str, str]]

NEAR: Final = 0.995
"""Agreement of two stimuli's features, over all bands, from which they are as good as one."""
COLLINEAR: Final = 0.99
"""Agreement of two bands' kernels from which their shares cannot be told apart."""
WIDER: Final = 10
"""Ratio of the effective dimensions of bands from which width alone could make the difference."""
LARGEST_R: Final = 0.7
"""A correlation that even a small test set should find."""
RARE: Final = {"test": 0.01, "permutations": 0.05}
"""Fraction of voxels taken to be active: with so few, the strictest p must still be within reach."""
ENOUGH_TRAIN_ROWS: Final = 20
"""Training rows of a session or run with which z-scoring by it gains as much as it costs, where sessions differ by .3
standard deviations in mean and 10 % in scale."""
COST: Final = 1.75
"""Of z-scoring by sessions of n training rows: R² falls by this over n, measured for 8 to 32."""
AT_ONCE: Final = 512


@dataclass(frozen=True, eq=False)
class Design:
    """What a study is about to do with one participant.

    Parameters
    ----------
    responses : Responses
        Single trials, before anything is split.
    sides : sequence of (train ids, test ids)
        One pair, or one for each fold.
    criterion : Criterion
    looks : dict of str to Look
        How each stimulus looks; empty where images are not at hand.
    features : Features, optional
        Once they are extracted; rules that need them are left out before.
    models : sequence of tuple of str
        The bands of each model that is fitted.
    unit : {"stimulus", "session", "cluster"}
        What folds hold out.
    clusters : sequence of str
        Those whose signs the null flips; empty if it flips none.
    zscore : {"session", "run", "none"}
    participant : str
    cut : str
        What the extractor leaves out of captions that are longer than its window, in a sentence; empty if nothing.
    """

    responses: Responses
    sides: Sequence[tuple[Sequence[str], Sequence[str]]]
    criterion: Criterion
    looks: Mapping[str, Look] = field(default_factory=dict)
    features: Features | None = None
    models: Sequence[tuple[str, ...]] = ()
    unit: str = "stimulus"
    clusters: Sequence[str] = ()
    zscore: Within = "none"
    participant: str = ""
    cut: str = ""

    @property
    def ids(self) -> list[str]:
        """All stimuli that are used, each once."""
        return list(dict.fromkeys(name for train, test in self.sides for name in (*train, *test)))

    @property
    def extracted(self) -> Features:
        """The features, once they are extracted."""
        if self.features is None:
            raise InputError("The features are not extracted yet.")
        return self.features

    @property
    def n_test(self) -> int:
        """Stimuli that a score is made of: those of the test set, or of all folds together."""
        return sum(len(test) for _, test in self.sides)


@dataclass(frozen=True)
class Finding:
    """What a rule has against a design.

    Parameters
    ----------
    rule : str
        One of `RULES`.
    what : str
        What was found, and what to do about it.
    """

    rule: str
    what: str

    def __str__(self) -> str:
        """Name the rule and what it found."""
        return f"{self.rule}: {self.what}"


@dataclass(frozen=True)
class Rule:
    """One thing that must not be.

    Parameters
    ----------
    about : str
        What it looks for.
    look : callable
        Design -> what it found, each in a sentence.
    needs : tuple of {"looks", "features"}
        Fields of the design without which it cannot look.
    grave : bool
        Whether scores or p-values would be wrong. Otherwise they are right, and less is found or less can be said
        than one might think: a run goes on and the report says so.
    late : callable
        Tells of which designs it also needs the features.
    """

    about: str
    look: Callable[[Design], Iterator[str]]
    needs: tuple[str, ...] = ()
    grave: bool = False
    late: Callable[[Design], bool] = lambda _: False

    def can(self, design: Design) -> bool:
        """Tell whether the design holds what the rule needs."""
        there = {"looks": bool(design.looks), "features": design.features is not None}
        return all(there[name] for name in self.needs) and (there["features"] or not self.late(design))


def findings(design: Design, *, grave: bool = False) -> list[Finding]:
    """List everything that the rules, or the grave ones, have against a design; what cannot be seen yet is left out."""
    rules = {name: rule for name, rule in RULES.items() if rule.can(design) and (rule.grave or not grave)}
    return [Finding(name, what) for name, rule in rules.items() for what in rule.look(design)]


def refuse(design: Design, allow: Sequence[str] = ()) -> None:
    """Refuse a design that breaks a grave rule.

    Raises
    ------
    InputError
        If a grave rule is broken that is not allowed to be, or the name of one is not known.
    """
    known_rules(allow)
    found = [one for one in findings(design, grave=True) if one.rule not in allow]
    if found:
        more = f" {len(found) - 1} more: see `latentcortex check`." if len(found) > 1 else ""
        raise InputError(f"{found[0]} To go on nevertheless: --allow {found[0].rule}.{more}")


def tell(design: Design, allow: Sequence[str] = ()) -> None:
    """Log everything that the rules have against a design, so that the report shows it."""
    for one in findings(design):
        waived = "Allowed: " if one.rule in allow else ""
        facts = {"rule": one.rule, "allowed": bool(waived), "participant": design.participant}
        logger.warning("%s%s", waived, one, extra={"facts": facts})


def known_rules(names: Sequence[str]) -> None:
    """Raise `InputError` for the name of a rule that there is not."""
    for name in names:
        if name not in RULES:
            raise unknown("rule", name, RULES)


# Images


def _same_image(design: Design) -> Iterator[str]:
    pairs = _identical(design)
    if pairs:
        yield f"{_many(pairs, 'image')} under two ids ({_shown(pairs)}); give each image one id."


def _near_duplicate(design: Design) -> Iterator[str]:
    look, alike = design.looks, _look_alike(design)
    same = {pair for pair in alike if look[pair[0]].hash == look[pair[1]].hash}
    looks = [pair for pair in alike if pair not in same]
    if looks:
        yield f"{_many(looks, 'pair')} of images that look alike ({_shown(looks)}){_across(design, looks)}."
    feel = [pair for pair in _feel_alike(design) if pair not in {*same, *looks}]
    if feel:
        yield f"{_many(feel, 'pair')} of stimuli with nearly equal features ({_shown(feel)}){_across(design, feel)}."


def _straddling(design: Design) -> Iterator[str]:
    leaks = _on_both_sides(design, [(name, name) for name in design.ids] + _identical(design))
    if leaks:
        yield f"{_many(leaks, 'image')} on both sides of a split ({_shown(leaks)}); put each image on one side."


def _across(design: Design, pairs: Pairs) -> str:
    """Say how many of some pairs are parted by a split."""
    parted = _on_both_sides(design, pairs)
    if not parted:
        return ", none on both sides of a split"
    return f", {len(parted)} of them on both sides of a split; put both on one side, or leave one out"


def _on_both_sides(design: Design, pairs: Pairs) -> Pairs:
    """Take the pairs of which one is fitted on where the other is tested."""
    parted = set()
    for train, test in design.sides:
        fitted, tested = set(train), set(test)
        parted |= {
            (one, other)
            for one, other in pairs
            if (one in fitted and other in tested) or (other in fitted and one in tested)
        }
    return [pair for pair in pairs if pair in parted]


def _identical(design: Design) -> Pairs:
    by_hash: dict[str, list[str]] = {}
    for name in design.ids if design.looks else ():
        by_hash.setdefault(design.looks[name].hash, []).append(name)
    return [(names[0], other) for names in by_hash.values() for other in names[1:]]


def _look_alike(design: Design) -> Pairs:
    """Find copies among all images: of other quality or size, lighter, grey, framed, mirrored, cropped by a tenth."""
    ids = design.ids if design.looks else []
    return [(ids[i], ids[j]) for i, j in copies([design.looks[name].views for name in ids])]


def _feel_alike(design: Design) -> Pairs:
    """Find each stimulus's neighbours in the space of all bands, each of them scaled to the same size."""
    if design.features is None:
        return []
    ids = design.ids
    joint = np.zeros((len(ids), len(ids)))
    for band in _bands(design):  # one after the other: many kernels of many stimuli would not fit into memory
        joint += design.extracted.gram(band, ids, ids, fit_on=ids)
    size = np.diag(joint)

    def near(rows: slice) -> BoolArray:
        mean = (size[rows, None] + size) / 2
        return np.asarray(mean - joint[rows] <= (1 - NEAR) * mean)

    return _pairs(ids, near)


def _pairs(ids: Sequence[str], alike: Callable[[slice], BoolArray]) -> Pairs:
    """List pairs of ids that are alike; `alike` compares a stretch of them with all."""
    found: Pairs = []
    for rows in (slice(i, i + AT_ONCE) for i in range(0, len(ids), AT_ONCE)):
        one, other = np.nonzero(alike(rows))
        found += [
            (ids[i + rows.start], ids[j])
            for i, j in zip(one.tolist(), other.tolist(), strict=True)
            if j > i + rows.start
        ]
    return found


def _many(pairs: Pairs, what: str) -> str:
    return f"{len(pairs)} {what}{'s' if len(pairs) > 1 else ''}"


def _shown(pairs: Pairs) -> str:
    return listed(one if one == other else f"{one} = {other}" for one, other in pairs)


def _cut_captions(design: Design) -> Iterator[str]:
    if design.cut:
        yield design.cut


# What is fitted on what


def _fitted_on_test(design: Design) -> Iterator[str]:
    for band, ids in design.extracted.fitted_on.items():
        leaking = sorted(set(ids) & {name for _, test in design.sides for name in test})
        if leaking:
            yield f"band {band} was reduced on {len(leaking)} test stimuli ({listed(leaking)}); fit on training ones."


def _voxel_selection(design: Design) -> Iterator[str]:
    leaking = sorted(set(design.responses.chosen_on) & {name for _, test in design.sides for name in test})
    if leaking:
        yield (
            f"voxels were chosen by their responses to {len(leaking)} stimuli that are tested on ({listed(leaking)}); "
            "choose them within the training stimuli of each fold."
        )


def _few_training_rows(design: Design) -> Iterator[str]:
    """Look at every side: a session that is mostly held out has few rows left to be z-scored with."""
    if design.zscore == "none":
        return
    within = design.zscore
    fewest: dict[str, int] = {}
    for train_ids, test_ids in design.sides:
        used = design.responses.select([*train_ids, *test_ids])
        counts = used.training_rows(used.rows["stimulus"].isin(train_ids).to_numpy(), within)
        fewest.update({name: min(n, fewest.get(name, n)) for name, n in counts.items()})
    few = {name: n for name, n in fewest.items() if n < ENOUGH_TRAIN_ROWS}
    if not few:
        return
    name, least = min(few.items(), key=lambda one: one[1])
    cost = f"where all have so few, z-scoring costs {COST / max(least, 1):.0%} of R²"
    if least < MIN_TRAIN_ROWS:
        cost = f"z-scoring needs at least {MIN_TRAIN_ROWS}"
    yield (
        f"{len(few)} of {len(fewest)} {within}s have fewer than {ENOUGH_TRAIN_ROWS} training rows, the fewest {least} "
        f"({within} {name}): {cost}; set zscore = {_wider(within)}, or hold out fewer stimuli of each {within}."
    )


def _within_run(design: Design) -> Iterator[str]:
    tested = {name for _, test in design.sides for name in test}
    repeated = [name for name in design.responses.repeated_within_run() if name in tested]
    if repeated:
        yield (
            f"{len(repeated)} test stimuli have two trials or more in one run ({listed(repeated)}); noise that these "
            "share counts as signal in the noise ceiling, a tenth of it as .25. Show repeats in different runs, or do "
            "not rely on the ceiling."
        )


def _wider(within: Within) -> str:
    return "'session' or 'none'" if within == "run" else "'none'"


# Inference


def _one_by_one(design: Design) -> bool:
    """Tell whether the closed form is asked for where only a time series could make it wrong."""
    return design.criterion.null == "analytic" and len(design.sides) == 1 and design.unit == "stimulus"


def _parametric_null(design: Design) -> Iterator[str]:
    if design.criterion.null != "analytic":
        return
    if len(design.sides) > 1:
        yield "the closed form is not valid for predictions pooled over folds; use null = 'permutation'."
    elif design.unit != "stimulus":
        yield f"the closed form takes stimuli one by one, and whole {design.unit}s are held out; use null = 'clusters'."
    elif _is_series(design):
        yield "responses and features are autocorrelated: test rows are a time series; use null = 'blocks'."


def _is_series(design: Design) -> bool:
    """Tell whether test stimuli follow each other as a time series: features and responses are both slow."""
    if design.features is None:
        return False
    train_ids, test_ids = design.sides[0]
    test = design.responses.split(train_ids=train_ids, test_ids=test_ids, zscore=design.zscore)[1].averaged()
    slow = inference.lag_one(test.data[:, :: -(-test.data.shape[1] // MOST_VOXELS)])
    if not test.in_time or not np.isfinite(slow).any():
        return False
    features = []
    for band in _bands(design):
        kernel = design.extracted.gram(band, test.ids, test.ids, fit_on=test.ids)
        chance = 3 / np.sqrt(len(test.ids) * _effective(kernel))
        features.append(np.diag(kernel, 1).sum() / np.trace(kernel) - chance)
    return is_series((float(np.nanmedian(slow)) - 3 / np.sqrt(len(test.ids))) * max(features))


def _few_permutations(design: Design) -> Iterator[str]:
    how, n_voxels = design.criterion, int(design.responses.valid().sum())
    counted = how.null in ("permutation", "blocks", "shift", "clusters") or len(design.sides) > 1
    needed = inference.permutations_needed(n_voxels, round(n_voxels * RARE["permutations"]), how.q)
    n_clusters = len(set(design.clusters))
    # Across folds, responses that are all flipped are fitted and tested as they were: half of the ways are the others.
    n_flips = 2 ** min(n_clusters - (len(design.sides) > 1), 60)
    if design.clusters and n_flips <= needed:
        yield (
            f"{n_clusters} {design.unit}s can be flipped in {n_flips} ways, which cannot reject a voxel "
            f"at q = {how.q:g}; hold out smaller clusters, or single stimuli."
        )
    if counted and how.n_permutations < needed:
        least = 1 / (how.q * (how.n_permutations + 1))
        unless = f" unless {least:.0%} of {n_voxels} voxels are active" if least < 1 else ""
        single = inference.permutations_needed(n_voxels, 1, how.q)
        yield (
            f"{how.n_permutations} permutations cannot reject a voxel at q = {how.q:g}{unless}; set n_permutations "
            f"to at least {needed}, which is enough where {RARE['permutations']:.0%} are, or {single} for a single one."
        )


def _small_test_set(design: Design) -> Iterator[str]:
    n, level = design.n_test, design.criterion.q * RARE["test"]
    if n < 3:
        smallest = 1.0
    else:
        t = float(stats.t.isf(level, n - 2))
        smallest = t / np.sqrt(n - 2 + t * t)
    if smallest > LARGEST_R:
        yield (
            f"{n} test stimuli find r above {smallest:.2f} only, where one voxel in {1 / RARE['test']:.0f} is active; "
            "test on more stimuli, or in folds."
        )


# Bands


def _collinear_bands(design: Design) -> Iterator[str]:
    agree: dict[tuple[str, str], float] = {}
    for model in design.models:
        new = [pair for pair in combinations(model, 2) if pair not in agree]
        kernels = _kernels(design, {band for pair in new for band in pair})
        agree |= {pair: _agreement(kernels[pair[0]], kernels[pair[1]]) for pair in new}
    close = {pair: value for pair, value in agree.items() if value > COLLINEAR}
    if close:
        named = listed(f"{one} and {other} {value:.4f}" for (one, other), value in close.items())
        yield (
            f"{len(close)} pairs of bands in one model have nearly the same kernel ({named}): their shares cannot be "
            "told apart in single voxels, see the identifiability in the report."
        )


def _unequal_widths(design: Design) -> Iterator[str]:
    width = {}
    for band in sorted({band for model in design.models for band in model}):
        width[band] = _effective(_kernels(design, {band})[band])
    if not width:
        return
    least, most = min(width, key=width.__getitem__), max(width, key=width.__getitem__)
    if width[most] > WIDER * width[least]:
        yield (
            f"{most} has {width[most]:.0f} effective dimensions and {least} {width[least]:.0f}: with so many stimuli "
            "the narrower band scores higher for its width alone; compare bands of one width, or corrected R²."
        )


def _bands(design: Design) -> list[str]:
    used = dict.fromkeys(band for model in design.models for band in model)
    return list(used) or list(design.extracted.bands)


def _kernels(design: Design, bands: set[str]) -> dict[str, FloatArray]:
    """Compute the kernels of the first side's training stimuli."""
    train = design.sides[0][0]
    names = sorted(bands)
    kernels = in_threads(lambda band: design.extracted.gram(band, train, train, fit_on=train), names)
    return dict(zip(names, kernels, strict=True))


def _effective(kernel: FloatArray) -> float:
    """Count effective dimensions: the participation ratio of a kernel's eigenvalues."""
    return float(np.trace(kernel) ** 2 / (kernel * kernel).sum())


def _agreement(one: FloatArray, other: FloatArray) -> float:
    """Correlate two centred kernels (linear CKA), in [0, 1]."""
    return float((one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum()))


RULES: Final[dict[str, Rule]] = {
    "straddling": Rule("repeats or duplicates on both sides of a split", _straddling, grave=True),
    "fitted-on-test": Rule("features that were reduced on test stimuli", _fitted_on_test, ("features",), grave=True),
    "voxel-selection": Rule("voxels that were chosen on test stimuli", _voxel_selection, grave=True),
    "parametric-null": Rule(
        "a closed form where rows are not exchangeable", _parametric_null, grave=True, late=_one_by_one
    ),
    "same-image": Rule("one image under two ids", _same_image, ("looks",)),
    "near-duplicate": Rule("images or features that are nearly the same", _near_duplicate),
    "repeats-within-run": Rule("repeats of a stimulus in one run, which share noise", _within_run),
    "few-training-rows": Rule("sessions or runs of too few training rows to be z-scored with", _few_training_rows),
    "cut-captions": Rule("captions that are longer than what is read of them", _cut_captions),
    "few-permutations": Rule("permutations too few for so many voxels", _few_permutations),
    "small-test-set": Rule("a test set too small to find anything", _small_test_set),
    "collinear-bands": Rule("bands whose shares cannot be told apart", _collinear_bands, ("features",)),
    "unequal-widths": Rule("bands of very different width", _unequal_widths, ("features",)),
}
"""The rules by name, the gravest first."""
