"""The command line: one subcommand per stage. Bad input is one line and exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from latentcortex.errors import LatentcortexError

DEMO = Path(__file__).parent / "datasets" / "phantom" / "study.toml"


def parser() -> argparse.ArgumentParser:
    """Describe the subcommands."""
    top = argparse.ArgumentParser(
        prog="latentcortex",
        description="Which part of a latent diffusion model explains which part of cortex, and how sure is it?",
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    stages = top.add_subparsers(dest="command", metavar="COMMAND")
    demo = stages.add_parser("demo", help="run the bundled phantom, offline, end to end")
    demo.add_argument("out", type=Path, metavar="OUT", help="folder for the results")
    _options(demo)
    for name, about in (
        ("run", "run all stages of a study"),
        ("extract", "extract the features of a study's stimuli"),
        ("encode", "fit and score all models of a study, extracting first what is missing"),
        ("report", "write maps, figures, tables and the report, computing first what is missing"),
        ("decode", "decode the features of a study's test stimuli from responses"),
        ("reconstruct", "make images from decoded features, decoding first what is missing"),
        ("evaluate", "score reconstructions and write their page, computing first what is missing"),
    ):
        stage = stages.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        stage.add_argument("study", type=Path, metavar="STUDY.toml", help="the study file")
        stage.add_argument("--out", type=Path, help="folder for the results (default: `out` in [run])")
        _options(stage)
    return top


def _options(stage: argparse.ArgumentParser) -> None:
    stage.add_argument("--overwrite", action="store_true", help="replace the results of another study in that folder")
    stage.add_argument("--quiet", action="store_true", help="no progress bars")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit code."""
    top = parser()
    given = top.parse_args(arguments)
    if given.version:
        import latentcortex

        print(f"latentcortex {latentcortex.__version__}")
        return 0
    if given.command is None:
        top.print_help()
        return 2
    try:
        return _run(given)
    except LatentcortexError as error:
        print(f"latentcortex: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("latentcortex: interrupted; run the same command to go on.", file=sys.stderr)
        return 130


def _run(given: argparse.Namespace) -> int:
    from latentcortex.study import Study

    demo = given.command == "demo"
    study = Study.read(DEMO if demo else given.study)
    until = None if given.command in ("demo", "run") else given.command
    out = given.out if demo or given.out is not None else study.out
    outcome = study.run(out, until=until, overwrite=given.overwrite, progress=not given.quiet)
    if not outcome.computed:
        print(f"Nothing to do: {outcome.out} is complete.")
    for participant, pages in outcome.pages.items():
        for page in pages:
            print(f"Participant {participant}: {page.resolve()}")
    if until in ("extract", "encode", "decode", "reconstruct"):
        print(f"Done up to {until}: {outcome.out.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
