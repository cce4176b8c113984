"""Any number of maps in one HTML page, on cortex that can be turned, inflated and flattened; pycortex makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from latentcortex import _pycortex
from latentcortex._files import write_text
from latentcortex._pycortex import VIEW
from latentcortex._surfaces import has
from latentcortex.errors import InputError
from latentcortex.plotting._viewer_maps import ViewerMaps, viewer_maps
from latentcortex.space import Atlas

NEEDED: Final = "The WebGL viewer"


def webgl(
    maps: ViewerMaps,
    path: Path | str,
    *,
    atlas: Atlas | None = None,
    title: str = "latentcortex",
    filestore: Path | str | None = None,
) -> Path:
    """Write a page in which maps are seen on folded, inflated and flat cortex.

    The page is one file, opens without a web server and loads nothing from anywhere. Where a map is nan, the
    curvature shows.

    Parameters
    ----------
    maps : Maps, Painting, or dict of str to Painting
        Columns of `Maps` share a scale with those of the same statistic. A dict has the heading that stands over the
        maps of each painting.
    path : Path
        Of the page.
    atlas : Atlas, optional
        Regions whose outlines and names are drawn.
    title : str
        Of the page.
    filestore : Path, optional
        Filestore of pycortex in which the surfaces are, or are put as a subject of their own. It may be read-only if
        they are there. By default they are made for this page only, in a second.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MissingExtraError
        If pycortex is not installed.
    InputError
        If there is no map, the voxels have no known position, their cortex has no flat surface, regions are on another
        one, a preferred layer has no name, or the filestore holds another subject of that name or cannot be written.

    Notes
    -----
    pycortex [1]_ runs in a process of its own, and neither reads nor writes the user's configuration. The keys that
    the page knows are listed when `h` is pressed.

    References
    ----------
    .. [1] Gao, J. S., Huth, A. G., Lescroart, M. D., & Gallant, J. L. (2015). Pycortex: an interactive surface
       visualizer for fMRI. Frontiers in Neuroinformatics. doi:10.3389/fninf.2015.00023
    """
    template, regions, views = viewer_maps(maps, atlas)
    require_viewer(template)
    page = _pycortex.page(
        [view for view, _ in views],
        template=template,
        regions=(regions.labels, regions.names) if regions else None,
        told={"title": title, "maps": [facts | {"id": VIEW.format(i)} for i, (_, facts) in enumerate(views)]},
        filestore=Path(filestore) if filestore else None,
    )
    write_text(Path(path), page)
    return Path(path)


def require_viewer(template: str = "") -> None:
    """Raise `MissingExtraError` if pycortex is not installed, and `InputError` if the cortex has no flat surface."""
    _pycortex.require(NEEDED)
    if template and not has("flat", template):
        raise InputError(f"{NEEDED} flattens cortex, and {template} has no flat surface.")
