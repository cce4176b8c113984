"""Single-trial amplitudes of the Natural Scenes Dataset: percent signal change, whatever the sessions are stored as.

    HDF5   int16, percent x 300, (750, z, y, x) or (750, vertices): each voxel is read where it lies
    NIfTI  int16, percent x 300, (x, y, z, 750): read once, in order, into a copy by voxel
    .mgh   float32, percent, (vertices, 1, 1, 750), one for each hemisphere: likewise

A voxel that left the field of view in a session is 0 (int16) or nan (.mgh) in all of its trials: here always nan, so
that it can be told from an amplitude of 0. Amplitudes beyond 109 percent are as large as int16 can say, and counted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import BoolArray, FloatArray, IntArray, digest, fingerprint
from latentcortex._nifti import read_series_header, volumes
from latentcortex._store import Store
from latentcortex.datasets import _hdf5, _mgh
from latentcortex.datasets._hdf5_columns import columns
from latentcortex.datasets._nsd_release import TRIALS, Session
from latentcortex.datasets._sampling import sampled_print
from latentcortex.datasets._voxel_major import voxel_major
from latentcortex.errors import AlignmentError, InputError

logger = logging.getLogger(__name__)

SCALE: Final = np.float32(300)
"""Of int16: percent signal change times this."""
LIMITS: Final = (-32768, 32767)
"""Of int16, as which all amplitudes beyond are stored."""
AT_ONCE: Final = 8192
"""Voxels of which is counted at once what is not valid."""
EXPECTED: Final = "the betas of a session of NSD"


@dataclass(frozen=True, eq=False)
class Survey:
    """What all amplitudes of some voxels say of their quality.

    Parameters
    ----------
    invalid : ndarray of bool, shape (n_sessions, n_voxels)
        Sessions in which a voxel has no amplitude.
    saturated : ndarray of int, shape (n_voxels,)
        Trials whose amplitude is beyond what int16 can hold.
    """

    invalid: BoolArray
    saturated: IntArray


@dataclass(frozen=True, eq=False)
class Betas:
    """Amplitudes of some voxels of one participant in all of the sessions.

    Parameters
    ----------
    sessions : tuple of Session
    shape : tuple of int
        Of a volume, (x, y, z); or vertices of the left and the right hemisphere.
    voxels : ndarray of int
        Of a volume, (n_voxels, 3), the places of its voxels; or (n_voxels,), vertices counted through both hemispheres.
    scratch : Path
        Where copies by voxel are kept.
    """

    sessions: tuple[Session, ...]
    shape: tuple[int, ...]
    voxels: IntArray
    scratch: Path

    @property
    def _of_volume(self) -> bool:
        return self.voxels.ndim == 2

    @cached_property
    def prints(self) -> list[str]:
        """Hashes of samples of each file, and of which voxels are taken."""
        return [fingerprint(self.voxels), *(sampled_print(path) for one in self.sessions for path in one.paths)]

    def read(self, start: int, stop: int) -> FloatArray:
        """Read some voxels, (n_trials, stop - start) in percent; nan in sessions in which nothing was valid."""
        out = np.empty((TRIALS * len(self.sessions), stop - start), dtype=np.float32)
        for k, session in enumerate(self.sessions):
            stored, is_scaled = self._stored(session, start, stop)
            of_session = out[k * TRIALS : (k + 1) * TRIALS]
            of_session[:] = stored
            if is_scaled:
                of_session /= SCALE
            of_session[:, _invalid(stored)] = np.nan
        return out

    def survey(self) -> Survey:
        """Count what is not valid, in one pass over all amplitudes whose outcome is kept beside the copies."""
        n_voxels = len(self.voxels)
        store = Store(self.scratch / digest("survey of nsd", self.prints)[:32])
        if not store.has("survey"):
            invalid, saturated = np.zeros((len(self.sessions), n_voxels), bool), np.zeros(n_voxels, np.int32)
            for start in range(0, n_voxels, AT_ONCE):
                stop = min(start + AT_ONCE, n_voxels)
                for k, session in enumerate(self.sessions):
                    stored, is_scaled = self._stored(session, start, stop)
                    invalid[k, start:stop] = _invalid(stored)
                    if is_scaled:
                        saturated[start:stop] += np.isin(stored, LIMITS).sum(axis=0)
            store.save("survey", {"invalid": invalid, "saturated": saturated})
        return Survey(
            store.take("survey", "invalid").astype(bool), np.asarray(store.take("survey", "saturated"), dtype=np.intp)
        )

    def _stored(self, session: Session, start: int, stop: int) -> tuple[NDArray[Any], bool]:
        """Read some voxels of a session as they are stored, (750, n), and tell whether they are percent x 300."""
        suffix = session.paths[0].name.split(".", 2 if len(session.paths) > 1 else 1)[-1]
        if suffix == "hdf5":
            return self._from_hdf5(session, start, stop), True
        is_mgh = not self._of_volume
        trials = self._from_mgh(session) if is_mgh else self._from_nifti(session.paths[0])
        key = digest("nsd by voxel", [sampled_print(path) for path in session.paths], fingerprint(self.voxels))[:32]
        shape = TRIALS, len(self.voxels)
        copy = voxel_major(trials, shape, source=session.paths[0], key=key, scratch=self.scratch)
        return copy.columns(start, stop), not is_mgh

    def _from_hdf5(self, session: Session, start: int, stop: int) -> NDArray[Any]:
        """Read voxels, or vertices of one hemisphere and then of the other, from where they lie."""
        wanted = self.voxels[start:stop]
        if self._of_volume:
            return _columns(session.paths[0], self.shape[::-1], wanted[:, ::-1])
        n_left = self.shape[0]
        sides = (wanted[wanted < n_left], wanted[wanted >= n_left] - n_left)
        parts = [
            _columns(path, (n,), of_side[:, None])
            for path, n, of_side in zip(session.paths, self.shape, sides, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def _from_nifti(self, path: Path) -> Iterator[FloatArray]:
        """Read the voxels trial by trial; the header is looked at first."""
        header = read_series_header(path)
        if header.dtype.kind != "i" or header.dtype.itemsize != 2 or header.scaling is not None:
            scaled = "" if header.scaling is None else f" with slope and intercept {header.scaling}"
            raise InputError(f"{path} holds {header.dtype.name}{scaled}; expected int16, percent x 300, as released.")
        if header.shape != (*self.shape, TRIALS):
            raise AlignmentError(f"{path} is {header.shape}; expected {(*self.shape, TRIALS)}, 750 trials of the ROI.")
        places = tuple(self.voxels.T)
        return (volume[places].astype(np.float32) for volume in volumes(path, header))

    def _from_mgh(self, session: Session) -> Iterator[FloatArray]:
        """Read the vertices of both hemispheres trial by trial; the headers are looked at first."""
        n_left, sides = self.shape[0], []
        wanted = (self.voxels[self.voxels < n_left], self.voxels[self.voxels >= n_left] - n_left)
        for path, n, vertices in zip(session.paths, self.shape, wanted, strict=True):
            header = _mgh.read_header(path, expected=EXPECTED)
            if header.dtype.kind != "f" or (header.n_vertices, header.n_frames) != (n, TRIALS):
                raise AlignmentError(
                    f"{path} has {header.n_frames} frames of {header.n_vertices} vertices, {header.dtype.name}; "
                    f"expected {TRIALS} of {n}, float32."
                )
            first, last = (int(vertices[0]), int(vertices[-1]) + 1) if len(vertices) else (0, 1)
            sides.append((_mgh.frames(path, header, first, last), vertices - first))
        (left, of_left), (right, of_right) = sides
        return (np.concatenate([a[of_left], b[of_right]]).astype(np.float32) for a, b in zip(left, right, strict=True))


def _columns(path: Path, shape: tuple[int, ...], places: IntArray) -> NDArray[Any]:
    """Read voxels of one HDF5 file, int16 (750, n_voxels); places are in the order of its axes."""
    with _hdf5.opened(path, expected=EXPECTED) as file:
        stored = _hdf5.array(file, "betas", path)
        if stored.dtype.kind != "i" or stored.dtype.itemsize != 2:
            raise InputError(f"{path} holds {stored.dtype}; expected int16, percent x 300, as released.")
        if stored.shape != (TRIALS, *shape):
            raise AlignmentError(
                f"{path}: betas are {stored.shape}; expected {(TRIALS, *shape)}, 750 trials on the grid of the ROIs: "
                "is it of another participant or space?"
            )
        return columns(stored, places)


def _invalid(stored: NDArray[Any]) -> BoolArray:
    """Tell which voxels have no amplitude in any trial of a session: 0, or nan, in all."""
    return np.asarray(~(np.nan_to_num(stored) != 0).any(axis=0))
