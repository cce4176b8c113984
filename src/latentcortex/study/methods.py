"""What the parts of a study say of themselves for its pages: methods, and what stands below each analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latentcortex._methods import MethodsPart, Sentences, sentences_of
from latentcortex.analyses.methods import of_ceiling, of_comparisons, of_control
from latentcortex.encoding.methods import of_shares, of_tests
from latentcortex.maps import Maps
from latentcortex.reporting import ReportSection

if TYPE_CHECKING:
    from latentcortex.analyses import Analysis
    from latentcortex.encoding import Criterion
    from latentcortex.evaluation import Metric
    from latentcortex.reconstructors import Reconstructor
    from latentcortex.splits import Splits


def of_parts(
    parts: Mapping[str, MethodsPart], *, participant: str, models: Sequence[Sequence[str]]
) -> dict[str, Sentences]:
    """Let what was picked from the shelves write what it does.

    Parameters
    ----------
    parts : mapping of str to MethodsPart
        `dataset`, `extractor` and `estimator`.
    participant : str
    models : sequence of sequence of str
        The bands of every model that is fitted.

    Raises
    ------
    InputError
        If a part writes something else than sentences, or cites what it gives no reference of.
    """
    facts: dict[str, dict[str, Any]] = {
        "dataset": {"participant": participant},
        "extractor": {"bands": list(dict.fromkeys(band for bands in models for band in bands))},
        "estimator": {"joint": any(len(bands) > 1 for bands in models)},
    }
    return {kind: sentences_of(kind, part, **facts[kind]) for kind, part in parts.items()}


def of_analyses(analyses: Sequence[Analysis]) -> dict[str, Sentences]:
    """Let analyses write what only they do, those of them that do more than the tests of maps tell."""
    written = {f"analysis {one.name}": sentences_of("analysis", MethodsPart(one, one.name, {})) for one in analyses}
    return {name: sentences for name, sentences in written.items() if sentences.text}


def of_results(maps: Maps, criterion: Criterion, splits: Splits, *, averaged: bool) -> dict[str, Sentences]:
    """Write how models were tested, split and compared.

    Parameters
    ----------
    maps : Maps
        All columns of the participant: what is not among them was not done.
    criterion : Criterion
    splits : Splits
    averaged : bool
        Whether responses to a repeated stimulus were averaged.
    """
    texts = {
        "splits": splits.methods(),
        "tests": of_tests(maps, criterion, averaged=averaged),
        "ceiling": of_ceiling(maps),
        "shares": of_shares(maps, criterion),
        "comparisons": of_comparisons(maps),
        "control": of_control(maps, pooled=len(splits) > 1),
    }
    return {name: Sentences(text) for name, text in texts.items() if text}


def of_routes(routes: Mapping[str, Reconstructor], reconstructors: Sequence[MethodsPart]) -> dict[str, Sentences]:
    """Let the reconstructors of a study write how images were made, each by the routes that it is used for.

    Parameters
    ----------
    routes : mapping of str to Reconstructor
    reconstructors : sequence of MethodsPart
        The study's, and last the baseline, which may be the same.
    """
    used = {part.name: [route for route, one in routes.items() if one is part.made] for part in reconstructors}
    return {
        part.name: sentences_of("reconstructor", part, routes=used[part.name])
        for part in reconstructors
        if used[part.name]
    }


def of_metrics(metrics: Mapping[str, Metric]) -> dict[str, Sentences]:
    """Let metrics write how they compare images, those that say it."""
    written = {
        f"metric {name}": sentences_of("metric", MethodsPart(metric, name, {})) for name, metric in metrics.items()
    }
    return {name: sentences for name, sentences in written.items() if sentences.text}


def section_of(analysis: Analysis) -> ReportSection:
    """Keep what an analysis says of its section of the report."""
    return ReportSection(analysis.title, tuple(analysis.figures), tuple(analysis.parts), analysis.axis)


def plain(sentences: Mapping[str, Sentences]) -> tuple[dict[str, str], str]:
    """Take apart what parts wrote: part -> text, and all BibTeX that they brought along."""
    more = dict.fromkeys(one.references.strip() for one in sentences.values() if one.references.strip())
    return {name: one.text for name, one in sentences.items()}, "\n\n".join(more)
