"""The rules of the linter of designs, and what breaks them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from latentcortex._shelf import unknown
from latentcortex.checking import bands, fitting, images, nulls, order
from latentcortex.checking.design import StudyDesign
from latentcortex.errors import InputError

logger = logging.getLogger(__name__)


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
    look: Callable[[StudyDesign], Iterator[str]]
    needs: tuple[str, ...] = ()
    grave: bool = False
    late: Callable[[StudyDesign], bool] = lambda _: False

    def can(self, design: StudyDesign) -> bool:
        """Tell whether the design holds what the rule needs."""
        available = {"fingerprints": bool(design.fingerprints), "features": design.features is not None}
        return all(available[name] for name in self.needs) and (available["features"] or not self.late(design))


def findings(design: StudyDesign, *, grave: bool = False) -> list[Finding]:
    """List everything that the rules, or the grave ones, have against a design; what cannot be seen yet is left out."""
    rules = {name: rule for name, rule in RULES.items() if rule.can(design) and (rule.grave or not grave)}
    return [Finding(name, what) for name, rule in rules.items() for what in rule.look(design)]


def refuse(design: StudyDesign, allow: Sequence[str] = ()) -> None:
    """Refuse a design that breaks a grave rule.

    Raises
    ------
    InputError
        If a grave rule is broken that is not allowed to be, or the name of one is not known.
    """
    known_rules(allow)
    broken = [one for one in findings(design, grave=True) if one.rule not in allow]
    if broken:
        more = f" {len(broken) - 1} more: see `latentcortex check`." if len(broken) > 1 else ""
        raise InputError(f"{broken[0]} To go on nevertheless: --allow {broken[0].rule}.{more}")


def tell(design: StudyDesign, allow: Sequence[str] = ()) -> None:
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


RULES: Final[dict[str, Rule]] = {
    "straddling": Rule("repeats or duplicates on both sides of a split", images.straddling, grave=True),
    "near-duplicate": Rule(
        "images or features that are nearly the same, on both sides of a split", images.near_duplicate, grave=True
    ),
    "fitted-on-test": Rule(
        "features that were reduced on test stimuli", fitting.fitted_on_test, ("features",), grave=True
    ),
    "voxel-selection": Rule("voxels that were chosen on test stimuli", fitting.voxel_selection, grave=True),
    "parametric-null": Rule(
        "a closed form where rows are not exchangeable", nulls.parametric_null, grave=True, late=nulls.one_by_one
    ),
    "mini-blocks": Rule(
        "like stimuli that follow each other, fitted on and tested within one run, where responses drift",
        order.mini_blocks,
        ("features",),
        grave=True,
    ),
    "same-image": Rule("one image under two ids", images.same_image, ("fingerprints",)),
    "near-duplicate-within": Rule(
        "images or features that are nearly the same, on one side of a split", images.near_duplicate_within
    ),
    "shifted-baseline": Rule("runs that are held out with another mean than the fitted ones", order.shifted_baseline),
    "repeats-within-run": Rule("repeats of a stimulus in one run, which share noise", fitting.repeats_within_run),
    "few-training-rows": Rule(
        "sessions or runs of too few training rows to be z-scored with", fitting.few_training_rows
    ),
    "cut-captions": Rule("captions that are longer than what is read of them", images.cut_captions),
    "few-permutations": Rule("permutations too few for so many voxels", nulls.few_permutations),
    "small-test-set": Rule("a test set too small to find anything", nulls.small_test_set),
    "collinear-bands": Rule("bands whose shares cannot be told apart", bands.collinear_bands, ("features",)),
    "unequal-widths": Rule("bands of very different width", bands.unequal_widths, ("features",)),
}
"""The rules by name, the gravest first."""
