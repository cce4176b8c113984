"""Eigendecompositions that let other threads work, and that are computed in float32 where the matrix is float32.

Neither library does both. `scipy.linalg.eigh` holds Python's global lock while LAPACK computes: of 1,200 rows another
thread ran 13 times per second meanwhile, so that two decompositions side by side take as long as one after the other.
`numpy.linalg.eigh` releases the lock (323 times per second) but computes a float32 matrix in float64 and rounds the
result: 0.90 s instead of 0.47 s, and twice the memory. So LAPACK's own divide-and-conquer routines are called by
ctypes, which releases the lock, through the table of functions that scipy publishes for Cython: it is the LAPACK that
scipy brings, and nothing else needs to be installed.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, Final

import numpy as np
from scipy.linalg import cython_lapack

from latentcortex._arrays import FloatArray

ROUTINES: Final = {np.dtype(np.float32): "ssyevd", np.dtype(np.float64): "dsyevd"}
N_ARGUMENTS: Final = 11
"""Arguments of these routines: JOBZ, UPLO, N, A, LDA, W, WORK, LWORK, IWORK, LIWORK, INFO."""


@lru_cache
def _routine(name: str) -> Any:
    """Look a routine up in scipy's table of functions for Cython, as one that ctypes calls without Python's lock."""
    capsule = cython_lapack.__pyx_capi__[name]
    python = ctypes.PyDLL(None)
    python.PyCapsule_GetName.restype = ctypes.c_char_p
    python.PyCapsule_GetName.argtypes = [ctypes.py_object]
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = python.PyCapsule_GetPointer(capsule, python.PyCapsule_GetName(capsule))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * N_ARGUMENTS)(address)


def eigh(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Decompose a symmetric matrix by divide and conquer; the matrix is left as it is.

    Parameters
    ----------
    matrix : ndarray of float32 or float64, shape (n, n)
        Finite.

    Returns
    -------
    values : ndarray of shape (n,)
        Ascending.
    vectors : ndarray of shape (n, n)
        One per column.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it does not converge.
    """
    n = len(matrix)
    vectors = np.array(matrix, order="F")
    values = np.empty(n, dtype=matrix.dtype)
    if n == 0:
        return values, vectors
    work = np.empty(1 + 6 * n + 2 * n * n, dtype=matrix.dtype)  # LWORK and LIWORK as LAPACK documents them for JOBZ = V
    integers = np.empty(3 + 5 * n, dtype=np.intc)
    size, info = ctypes.byref(ctypes.c_int(n)), ctypes.c_int(0)
    _routine(ROUTINES[matrix.dtype])(
        b"V",
        b"L",
        size,
        vectors.ctypes.data,
        size,
        values.ctypes.data,
        work.ctypes.data,
        ctypes.byref(ctypes.c_int(len(work))),
        integers.ctypes.data,
        ctypes.byref(ctypes.c_int(len(integers))),
        ctypes.byref(info),
    )
    if info.value:
        raise np.linalg.LinAlgError(f"The eigenvalues of a ({n}, {n}) matrix did not converge (info {info.value}).")
    return values, vectors
