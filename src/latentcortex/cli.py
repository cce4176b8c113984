"""The command line: one subcommand per stage. What the user or the machine must mend is one line and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from latentcortex._boundary import ending, interruptible

if TYPE_CHECKING:
    from latentcortex.study import Study

DEMO = Path(__file__).parent / "datasets" / "phantom" / "study.toml"


def parser() -> argparse.ArgumentParser:
    """Describe the subcommands."""
    top = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="latentcortex",
        description="Which part of a latent diffusion model explains which part of cortex, and how sure is it?",
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    stages = top.add_subparsers(dest="command", metavar="COMMAND")
    demo = stages.add_parser("demo", allow_abbrev=False, help="run the bundled phantom, offline, end to end")
    demo.add_argument("out", type=Path, metavar="OUT", help="folder for the results")
    _options(demo)
    check = stages.add_parser(
        "check",
        allow_abbrev=False,
        help="look for what would flatter a study's results, computing nothing",
        description="Look for what would flatter a study's results or break its p-values, and at all that a run needs. "
        "Rules about features look at those that are extracted already. The exit code is 2 if a rule is broken that is "
        "not allowed to be, or a run would stop.",
    )
    check.add_argument("study", type=Path, metavar="STUDY.toml", help="the study file")
    check.add_argument("--out", type=Path, help="folder for the results (default: `out` in [run])")
    _common(check)
    schema = stages.add_parser(
        "schema",
        allow_abbrev=False,
        help="print a JSON Schema of study files, for editors",
        description="Print what a study file may say: as JSON Schema, for editors, or as a file or tables of all keys.",
    )
    form = schema.add_mutually_exclusive_group()
    form.add_argument("--toml", action="store_true", help="print a study file with every key, its meaning and default")
    form.add_argument("--markdown", action="store_true", help="print tables of all keys")
    schema.add_argument("--debug", action="store_true", help="show where in the program a refusal comes from")
    for name, about in (
        ("run", "run all stages of a study"),
        ("extract", "extract the features of a study's stimuli"),
        ("encode", "fit and score all models of a study, extracting first what is missing"),
        (
            "report",
            "write maps, figures, tables and the report, computing first what is missing; of a folder of results, "
            "make its pages again from what it keeps",
        ),
        ("decode", "decode the features of a study's test stimuli from responses"),
        ("reconstruct", "make images from decoded features, decoding first what is missing"),
        ("evaluate", "score reconstructions and write their page, computing first what is missing"),
    ):
        stage = stages.add_parser(name, allow_abbrev=False, help=about, description=about[0].upper() + about[1:] + ".")
        of_folder = " | OUT" if name == "report" else ""
        stage.add_argument("study", type=Path, metavar=f"STUDY.toml{of_folder}", help="the study file")
        stage.add_argument("--out", type=Path, help="folder for the results (default: `out` in [run])")
        _options(stage)
    return top


def _options(stage: argparse.ArgumentParser) -> None:
    stage.add_argument("--overwrite", action="store_true", help="replace the results of another study in that folder")
    stage.add_argument("--quiet", action="store_true", help="no progress bars")
    _common(stage)


def _common(stage: argparse.ArgumentParser) -> None:
    stage.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="RULE",
        help="go on although this rule of `check` is broken, as `allow` in [check] does; the report says so",
    )
    stage.add_argument("--debug", action="store_true", help="show where in the program a refusal comes from")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit code."""
    given = parser().parse_args(arguments)
    try:
        with interruptible():
            return _run(given)
    except BaseException as error:
        end = ending(error)
        if end is not None:
            _tell(end.line, debug=getattr(given, "debug", False))
            return end.code
        raise


def _say(text: str) -> None:
    """Print a line at once, while there is still somebody to say that it cannot be."""
    try:
        print(text, flush=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def _tell(line: str, *, debug: bool) -> None:
    """Say why a command ended; what is left for a reader who is gone, or for a full disk, is let go."""
    with suppress(OSError):
        if debug:
            traceback.print_exc()
        for one in line.splitlines():
            print(f"latentcortex: {one}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(given: argparse.Namespace) -> int:
    if given.version:
        import latentcortex

        _say(f"latentcortex {latentcortex.__version__}")
        return 0
    if given.command is None:
        _say(parser().format_help().rstrip())
        return 2
    if given.command == "schema":
        from latentcortex.study import documents

        written = documents.every_key if given.toml else documents.tables if given.markdown else documents.schema_text
        _say(written().removesuffix("\n"))
        return 0
    from latentcortex.study import Study

    if given.command == "report" and given.study.is_dir():
        return _rebuild(given.study)
    demo = given.command == "demo"
    study = Study.read(DEMO if demo else given.study).allowing(given.allow)
    if given.command == "check":
        return _check(study, given.out)
    until = None if given.command in ("demo", "run") else given.command
    out = given.out if demo or given.out is not None else study.out
    outcome = study.run(out, until=until, overwrite=given.overwrite, progress=not given.quiet)
    for note in outcome.kept:
        _say(f"Kept: {note}")
    if not outcome.computed:
        _say(f"Nothing to do: {outcome.out} is complete.")
    for participant, pages in outcome.pages.items():
        for page in pages:
            _say(f"Participant {participant}: {page.resolve()}")
    if until in ("extract", "encode", "decode", "reconstruct"):
        _say(f"Done up to {until}: {outcome.out.resolve()}")
    return 0


def _rebuild(out: Path) -> int:
    """Make the pages of a finished folder again."""
    from latentcortex import reporting

    for page in reporting.rebuild(out):
        _say(f"Made again: {page.resolve()}")
    return 0


def _check(study: Study, out: Path | None) -> int:
    """Print what every rule says; return the exit code."""
    inspections = study.check(out)
    widest = max((len(inspection.rule) for inspection in inspections), default=0)
    for inspection in inspections:
        verdict = "allowed: " if inspection.rule in study.allowed else "refused: "
        nothing = "ok" if inspection.examined else "not looked at before features are extracted"
        for line in [verdict + finding for finding in inspection.findings] or [nothing]:
            _say(f"Participant {inspection.participant}  {inspection.rule:<{widest}} {line}")
    refused = sorted({one.rule for one in inspections if one.findings and one.rule not in study.allowed})
    if refused:
        line = f"{', '.join(refused)}: mend what is refused, or give --allow RULE for each that you can justify."
        print(f"latentcortex: {line}", file=sys.stderr)
    return 2 if refused else 0
