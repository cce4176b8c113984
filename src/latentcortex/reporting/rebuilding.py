"""The pages of a folder of results, made again from its maps."""

from __future__ import annotations

from pathlib import Path

import jinja2

from latentcortex._record import amending, refuse_links
from latentcortex.errors import IncompleteError, InputError, LatentcortexError
from latentcortex.reporting.content import CONTENT, LOG, Content
from latentcortex.reporting.group import write_group
from latentcortex.reporting.page import write


def rebuild(out: Path) -> list[Path]:
    """Write the pages of a finished folder again, from its maps and what lies beside them; return the pages.

    Nothing is computed but figures and tables, so that the text and the look of another version can be had; a viewer
    stays as it is. What is read is compared with the hashes in the folder's record, which then has those of what was
    written.

    Raises
    ------
    InputError
        If there is no report in the folder, or it would be written through a link.
    IncompleteError
        If a file is missing, or not as the study left it, or holds something else than a report is made from.
    """
    found = sorted(out.glob(f"sub-*/sub-*{CONTENT}"))
    if not found:
        raise InputError(f"{out} has no sub-*/sub-*{CONTENT}; expected a folder in which a report was written.")
    refuse_links(out, [f"{path.parent.name}/figures" for path in found])
    pages = []
    with amending(out):
        for path in found:
            try:
                pages.append(write(out, *Content.read(path, log=out / LOG)))
            except LatentcortexError:
                raise
            except (LookupError, TypeError, ValueError, AttributeError, jinja2.TemplateError) as error:
                raise IncompleteError(
                    f"{path} or the maps beside it are not what a report is made from ({type(error).__name__}: "
                    f"{error}); `latentcortex report STUDY.toml` makes them again."
                ) from error
        group = write_group(out)
    return [*pages, *([group] if group else [])]
