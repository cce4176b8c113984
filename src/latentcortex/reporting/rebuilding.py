"""The pages of a folder of results, made again from its maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jinja2

from latentcortex._results import amending, refuse_links
from latentcortex.errors import IncompleteError, InputError, LatentcortexError
from latentcortex.reporting.content import CONTENT, LOG, Content
from latentcortex.reporting.group import write_group
from latentcortex.reporting.page import write
from latentcortex.reporting.reconstructions import CONTENT as RECONSTRUCTIONS
from latentcortex.reporting.reconstructions import FOLDER, Reconstructions, write_reconstructions

_T = TypeVar("_T")


def rebuild(out: Path) -> list[Path]:
    """Write the pages of a finished folder again, from its maps and what lies beside them; return the pages.

    Those of reconstructions are made from what was kept of them, images and scores, in the folder `decoding`. Nothing
    is computed but figures and tables, so that the text and the look of another version can be had; a viewer stays as
    it is. What is read is compared with the hashes in the folder's record, which then has those of what was written.

    Raises
    ------
    InputError
        If there is no report in the folder, or it would be written through a link.
    IncompleteError
        If a file is missing, or not as the study left it, or holds something else than a report is made from.
    """
    maps, back = sorted(out.glob(f"sub-*/sub-*{CONTENT}")), out / FOLDER
    images = sorted(back.glob(f"sub-*/sub-*{RECONSTRUCTIONS}"))
    if not maps and not images:
        raise InputError(f"{out} has no sub-*/sub-*{CONTENT}; expected a folder in which a report was written.")
    refuse_links(out, [f"{path.parent.relative_to(out).as_posix()}/figures" for path in [*maps, *images]])
    # What is kept of reconstructions is little, and is looked at before anything is written.
    kept = [_again(path, lambda path: Reconstructions.read(path, log=back / LOG), "evaluate") for path in images]
    pages, group = [], None
    if maps:
        with amending(out):
            pages += [_again(path, lambda path: write(out, *Content.read(path, log=out / LOG))) for path in maps]
            group = write_group(out)
    if images:
        with amending(back):
            for path, content in zip(images, kept, strict=True):
                pages.append(_again(path, partial(_page, back, content), "evaluate"))
    return [*pages, *([group] if group else [])]


def _page(back: Path, content: tuple[Reconstructions, list[dict[str, Any]]], _: Path) -> Path:
    """Write the page of reconstructions from what was kept of it."""
    return write_reconstructions(back, *content)


def _again(path: Path, make: Callable[[Path], _T], stage: str = "report") -> _T:
    """Make something from what was kept; raise `IncompleteError` if it is nothing that a study writes."""
    try:
        return make(path)
    except LatentcortexError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, jinja2.TemplateError) as error:
        raise IncompleteError(
            f"{path} or what lies beside it is not what a report is made from ({type(error).__name__}: {error}); "
            f"`latentcortex {stage} STUDY.toml` makes it again."
        ) from error
