"""Any number of maps in one small HTML page, on cortex that can be turned; plotly draws it, and nothing is compiled."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from numpy.typing import NDArray

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray
from latentcortex._files import write_text
from latentcortex._pycortex import View
from latentcortex._surfaces import HEMISPHERES, Mesh, SurfaceKind
from latentcortex.errors import MissingExtraError
from latentcortex.plotting._viewer_maps import ViewerMaps, viewer_maps
from latentcortex.plotting.cortex import relief
from latentcortex.space import Atlas

NEEDED: Final = "The light viewer"
SHAPES: Final[dict[str, SurfaceKind]] = {"Inflated": "inflated", "Folded": "pial"}
"""The surfaces that a page has, the first of them at first."""
APART_MM: Final = 8.0
"""Between the hemispheres, at least."""
TEMPLATES: Final = Path(__file__).parents[1] / "templates"


def light(
    maps: ViewerMaps,
    path: Path | str,
    *,
    atlas: Atlas | None = None,
    title: str = "latentcortex",
) -> Path:
    """Write a page in which maps are seen on inflated and folded cortex that can be turned.

    The page is one file, opens without a web server and loads nothing from anywhere. Where a map is nan, the
    curvature shows; between vertices colours mix. Flat cortex is in the page that `webgl` writes.

    Parameters
    ----------
    maps : Maps, Painting, or dict of str to Painting
        Columns of `Maps` share a scale with those of the same statistic. A dict has the heading that stands over the
        maps of each painting.
    path : Path
        Of the page.
    atlas : Atlas, optional
        Regions whose outlines are drawn, and whose names stand beside the value that is pointed at.
    title : str
        Of the page.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MissingExtraError
        If plotly is not installed.
    InputError
        If there is no map, the voxels have no known position, maps or regions are on another cortex than others, or a
        preferred layer has no name.

    Notes
    -----
    A page of fsaverage5 holds plotly's script once (4.8 MB), the surfaces once (1.3 MB) and 0.11 MB for each map: 20
    maps are 8.5 MB, made in a tenth of a second (`benchmarks/report.py`), and a browser that draws without a graphics
    card opens them in 2 to 3 seconds and shows another map in half a second. A page of nilearn's `view_surf` holds one
    map in 3.2 MB. With 164,000 vertices in a hemisphere the surfaces are 22 MB, a map 1.7 MB, and another one takes 3
    seconds.

    The page runs under a policy that allows its two scripts by their hashes, and neither a network nor eval, which
    plotly 6 and 7 do not need for this.
    """
    require_light()
    template, regions, views = viewer_maps(maps, atlas)
    page = {
        "title": title,
        "maps": [facts | _packed(view) for view, facts in views],
        "hemispheres": _hemispheres(template),
        "regions": _regions(regions),
    }
    write_text(Path(path), _rendered(page))
    return Path(path)


def require_light(template: str = "") -> None:
    """Raise `MissingExtraError` if plotly is not installed, and `InputError` if a surface cannot be read."""
    if importlib.util.find_spec("plotly") is None:
        raise MissingExtraError.of("light", needed_for=NEEDED)
    for kind in _shapes(template).values() if template else ():
        _surfaces.surface(kind, template)


def _shapes(template: str) -> dict[str, SurfaceKind]:
    """Name the surfaces that a page of this cortex has."""
    return {name: kind for name, kind in SHAPES.items() if _surfaces.has(kind, template)} or SHAPES


def _packed(view: View) -> dict[str, Any]:
    """Write a map's numbers with their scale, or its colours, as the page reads them."""
    if view.palette is None:
        return {"colours": _text(view.values, np.uint8)}
    return {"values": _text(view.values, np.float32), "limits": view.limits, "palette": _text(view.palette, np.uint8)}


def _hemispheres(template: str) -> list[dict[str, Any]]:
    """Write each hemisphere's triangles, the places of its vertices on each surface, and its curvature as grey."""
    kinds = _shapes(template)
    surfaces = [_surfaces.surface(kind, template) for kind in kinds.values()]
    places = [_parted(meshes) for meshes in surfaces]
    grey = np.round(255 * relief(_surfaces.curvature(template)))
    hemispheres, first = [], 0
    for i, side in enumerate(HEMISPHERES):
        n = len(surfaces[0][i].coordinates)
        hemispheres.append(
            {
                "name": side,
                "first": first,
                "n": n,
                "triangles": _text(surfaces[0][i].triangles, np.uint32),
                "shapes": [(name, _text(one[i], np.float32)) for name, one in zip(kinds, places, strict=True)],
                "grey": _text(grey[first : first + n], np.uint8),
            }
        )
        first += n
    return hemispheres


def _parted(meshes: tuple[Mesh, Mesh]) -> tuple[FloatArray, FloatArray]:
    """Move the left hemisphere to the left and the right one to the right, until neither touches the other."""
    left, right = (mesh.coordinates.copy() for mesh in meshes)
    left[:, 0] -= left[:, 0].max() + APART_MM / 2
    right[:, 0] -= right[:, 0].min() - APART_MM / 2
    return left, right


def _regions(regions: Atlas | None) -> dict[str, Any] | None:
    """Write the region of each vertex, and the names of regions."""
    if regions is None:
        return None
    names = {str(label): name for label, name in regions.names.items()}
    return {"labels": _text(regions.labels, np.int32), "names": names}


def _text(array: NDArray[Any], kind: type[np.generic]) -> str:
    """Write an array as text: its numbers, the lowest byte first, in base64."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def _rendered(page: dict[str, Any]) -> str:
    """Fill the page; its two scripts, plotly's and our own, may run, and no other."""
    from plotly.offline import get_plotlyjs

    library = str(get_plotlyjs())
    script = (TEMPLATES / "light.js").read_text(encoding="utf-8")
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in (library, script)]
    maker = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return maker.get_template("light.html").render(told=page, library=library, script=script, hashes=hashes)
