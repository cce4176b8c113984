"""A static viewer of pycortex, a folder of files, as one page that opens without a web server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jinja2

from latentcortex.errors import LatentcortexError

POLICY: Final = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; font-src data:; connect-src blob:; "
    "script-src 'unsafe-inline' blob:; worker-src blob:; child-src blob:"
)
"""Nothing may be fetched from anywhere but the page itself."""

TEMPLATES: Final = Path(__file__).parents[1] / "templates"
TYPES: Final = {".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png"}


def packed(folder: Path, told: Mapping[str, Any], *, regions: bool) -> str:
    """Pack `index.html` and the files beside it into one page.

    Parameters
    ----------
    folder : Path
        What pycortex's `make_static` wrote.
    told : dict
        What stands beside the maps: title, and maps, a list of dict with id (pycortex's), title, heading, note,
        coloured (whether it has no values to point at) and legend (kind, label, and what that kind needs).
    regions : bool
        Whether there are outlines and names that can be hidden.

    Raises
    ------
    LatentcortexError
        If the page is not built as pycortex's are.
    """
    page = (folder / "index.html").read_text(encoding="utf-8")
    files = {
        path.relative_to(folder).as_posix(): (_type(path), base64.b64encode(path.read_bytes()).decode())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "index.html"
    }
    start = re.match(r"\s*<!doctype html[^>]*>", page, re.IGNORECASE)
    if start is None:
        raise LatentcortexError("pycortex wrote a page without a document type, unlike those that are known.")
    maker = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return maker.get_template("viewer.html").render(
        policy=POLICY,
        files=files,
        shim=(TEMPLATES / "viewer.js").read_text(encoding="utf-8"),
        page=_ordered(page[start.end() :]),
        told=told,
        regions=regions,
    )


def _ordered(page: str) -> str:
    """Sort what the page is told of the data: pycortex goes through a set, in another order in every process."""
    call = re.search(r"dataset\.fromJSON\((?={)", page)
    if call is None:
        raise LatentcortexError("pycortex wrote a page without data, unlike those that are known.")
    data, end = json.JSONDecoder().raw_decode(page, call.end())
    return page[: call.end()] + json.dumps(data, sort_keys=True) + page[end:]


def _type(path: Path) -> str:
    return TYPES.get(path.suffix, "application/octet-stream")
