"""Where surfaces lie on the disk: files as nilearn fetches them, a subject of FreeSurfer, a subject of pycortex."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from latentcortex import _gifti, _npy
from latentcortex._arrays import FloatArray, listed
from latentcortex._surfaces import freesurfer
from latentcortex._surfaces.freesurfer import doubles, unreadable
from latentcortex._surfaces.mesh import HEMISPHERES, Hemisphere, Mesh, SurfaceKind, twice_area
from latentcortex.errors import InputError

FLAT_PATCHES: Final = ("full.flat.patch.3d", "cortex.patch.flat", "flat.patch.3d", "autoflatten.flat.patch.3d")
"""What flattened patches of FreeSurfer are called, after `lh.`; the first that is there counts."""


class SurfaceLayout(Protocol):
    """What a folder of surfaces is asked for."""

    def mesh(self, kind: SurfaceKind, side: Hemisphere) -> Mesh:
        """Read a surface; of the flat one the triangles are those of the patch."""
        ...

    def values(self, name: str, side: Hemisphere) -> FloatArray | None:
        """Read the curvature, depth (of sulci; in both sulci are positive) or thickness; None if it is not there."""
        ...

    def has(self, kind: SurfaceKind) -> bool:
        """Tell whether there is such a surface of both hemispheres."""
        ...

    def to_world(self) -> FloatArray:
        """Return the matrix (4, 4) from the coordinates of the surfaces to mm in the scanner."""
        ...


class NilearnFiles:
    """Files as nilearn has them: `white_left.gii.gz`.

    Parameters
    ----------
    folder : Path
    """

    _KINDS: Final = {"white": "white", "pial": "pial", "inflated": "infl", "sphere": "sphere", "flat": "flat"}
    _VALUES: Final = {"curvature": "curv", "depth": "sulc", "thickness": "thick"}

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, name: str, side: Hemisphere) -> Path:
        return self.folder / f"{name}_{side}.gii.gz"

    def mesh(self, kind: SurfaceKind, side: Hemisphere) -> Mesh:
        """Read a surface."""
        return _gifti_mesh(self._path(self._KINDS[kind], side), side)

    def values(self, name: str, side: Hemisphere) -> FloatArray | None:
        """Read a number for each vertex."""
        path = self._path(self._VALUES[name], side)
        if not path.is_file():
            return None
        return doubles(_gifti.vertices(_gifti.read(path, side=side).only(), path))

    def has(self, kind: SurfaceKind) -> bool:
        """Tell whether there is such a surface."""
        return all(self._path(self._KINDS[kind], side).is_file() for side in HEMISPHERES)

    def to_world(self) -> FloatArray:
        """Return the identity: the coordinates are those of MNI305."""
        return np.eye(4)


class FreeSurferSubject:
    """A subject as `recon-all` leaves it: `surf/lh.white`.

    Parameters
    ----------
    folder : Path
    """

    _VALUES: Final = {"curvature": "curv", "depth": "sulc", "thickness": "thickness"}

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, name: str, side: Hemisphere) -> Path:
        return self.folder / "surf" / f"{side[0]}h.{name}"

    def _patch(self, side: Hemisphere) -> Path | None:
        usual = [self._path(name, side) for name in FLAT_PATCHES]
        others = [path for path in sorted(self.folder.glob(f"surf/{side[0]}h.*")) if "flat" in path.name.split(".")]
        paths = [path for path in usual if path.is_file()][:1] or others
        if len(paths) > 1:
            names = listed([path.name for path in paths])
            raise InputError(f"{self.folder / 'surf'} has several flat patches, {names}; name one {usual[0].name}.")
        return paths[0] if paths else None

    def mesh(self, kind: SurfaceKind, side: Hemisphere) -> Mesh:
        """Read a surface; a flat patch is turned so that posterior is in the middle and dorsal up."""
        if kind == "flat":
            return self._flat(side)
        path = self._path(kind, side)
        surface = freesurfer.geometry(path)
        return _mesh(path, surface.points, surface.triangles)

    def _flat(self, side: Hemisphere) -> Mesh:
        path, white = self._patch(side), self.mesh("white", side)
        if path is None:
            raise InputError(f"{self.folder / 'surf'} has no flat patch, such as {side[0]}h.{FLAT_PATCHES[0]}.")
        vertices, points = freesurfer.patch(path)
        if len(vertices) and vertices.max() >= len(white.coordinates):
            raise InputError(
                f"{path} names vertex {vertices.max()}; {self._path('white', side)} has {len(white.coordinates)}. "
                "They are of different surfaces."
            )
        inside = np.zeros(len(white.coordinates), dtype=bool)
        inside[vertices] = True
        flat = np.zeros_like(white.coordinates)
        flat[vertices] = points
        triangles = white.triangles[inside[white.triangles].all(axis=1)]
        return turned(Mesh(flat, triangles), white, side)

    def values(self, name: str, side: Hemisphere) -> FloatArray | None:
        """Read a number for each vertex."""
        path = self._path(self._VALUES[name], side)
        return freesurfer.numbers(path) if path.is_file() else None

    def has(self, kind: SurfaceKind) -> bool:
        """Tell whether there is such a surface."""
        paths = [self._patch(side) if kind == "flat" else self._path(kind, side) for side in HEMISPHERES]
        return all(path is not None and path.is_file() for path in paths)

    def to_world(self) -> FloatArray:
        """Return the matrix from mm about the middle of FreeSurfer's volume to those in the scanner."""
        return freesurfer.world(self._path("white", "left"))


class PycortexSubject:
    """A subject in a filestore of pycortex: `surfaces/wm_lh.gii`.

    Parameters
    ----------
    folder : Path
    """

    _KINDS: Final = {
        "white": ("wm", "fiducial"),
        "pial": ("pia", "fiducial"),
        "inflated": ("inflated", "veryinflated", "superinflated"),
        "sphere": ("sphere",),
        "flat": ("flat",),
    }
    _VALUES: Final = {"curvature": ("curvature", -1.0), "depth": ("sulcaldepth", -1.0), "thickness": ("thickness", 1.0)}
    """What pycortex calls them, and the sign that makes sulci positive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, kind: SurfaceKind, side: Hemisphere) -> Path:
        paths = [self.folder / "surfaces" / f"{name}_{side[0]}h.gii" for name in self._KINDS[kind]]
        return next((path for path in paths if path.is_file()), paths[0])

    def mesh(self, kind: SurfaceKind, side: Hemisphere) -> Mesh:
        """Read a surface."""
        return _gifti_mesh(self._path(kind, side), side)

    def values(self, name: str, side: Hemisphere) -> FloatArray | None:
        """Read a number for each vertex."""
        own, sign = self._VALUES[name]
        path = self.folder / "surface-info" / f"{own}.npz"
        if not path.is_file():
            return None
        (values,) = _npy.read_npz(path, side, max_bytes=freesurfer.MAX_BYTES)
        return sign * doubles(_gifti.vertices(values, path))

    def has(self, kind: SurfaceKind) -> bool:
        """Tell whether there is such a surface."""
        return all(self._path(kind, side).is_file() for side in HEMISPHERES)

    def to_world(self) -> FloatArray:
        """Raise `InputError`: only a subject's transforms say where its surfaces are."""
        raise InputError(f"{self.folder} says by a transform only where its surfaces are: give one of its transforms.")


def layout_in(folder: Path) -> SurfaceLayout | None:
    """Find out how the surfaces in a folder are kept; None if there are none."""
    if (folder / "surf" / "lh.white").is_file():
        return FreeSurferSubject(folder)
    if any(folder.glob("surfaces/*_lh.gii")):
        return PycortexSubject(folder)
    return NilearnFiles(folder) if (folder / "white_left.gii.gz").is_file() else None


def turned(flat: Mesh, folded: Mesh, side: Hemisphere) -> Mesh:
    """Turn a flat patch so that posterior points to the middle and dorsal up, as far as a turn can do that.

    The turn is the one with which the patch resembles the folded surface, seen from the side, most (Procrustes); a
    patch of which most triangles show their back is mirrored first.
    """
    used = np.unique(flat.triangles)
    points = flat.coordinates.copy()
    points[:, 2] = 0.0
    if np.median(twice_area(points[flat.triangles])) < 0:
        points[:, 0] *= -1
    points[used] -= points[used].mean(axis=0)
    sign = -1.0 if side == "left" else 1.0
    seen = folded.coordinates[used][:, 1:] * (sign, 1.0)
    u, _, v = np.linalg.svd((seen - seen.mean(axis=0)).T @ points[used, :2])
    turn = u @ np.diag([1.0, np.sign(np.linalg.det(u @ v))]) @ v
    points[:, :2] = points[:, :2] @ turn.T
    return Mesh(points, flat.triangles)


def _mesh(path: Path, points: NDArray[Any], triangles: NDArray[Any]) -> Mesh:
    """Make a surface of what a file holds; no corner of a triangle may be elsewhere than at one of its vertices."""
    whole = triangles.dtype.kind in "iu"
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3 or not whole:
        raise unreadable(path, f"its vertices are {points.shape}, its triangles {triangles.shape} {triangles.dtype}")
    corners = triangles.astype(np.int64)
    if corners.size and (corners.min() < 0 or corners.max() >= len(points)):
        raise unreadable(path, f"its triangles name vertices {corners.min()} to {corners.max()} of {len(points)}")
    if not np.isfinite(points[np.unique(corners)]).all():
        raise unreadable(path, "the coordinates of a vertex are not finite")
    return Mesh(doubles(points), corners)


def _gifti_mesh(path: Path, side: Hemisphere) -> Mesh:
    file = _gifti.read(path, side=side)
    return _mesh(path, file.only(_gifti.POINTS), file.only(_gifti.TRIANGLES))
