"""Eigendecompositions that let other threads work.

scipy's own wrapper holds Python's lock while LAPACK computes, so two of them side by side take as long as one after
the other. The same routine, called through the table of functions that scipy publishes for Cython, does not.
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


@lru_cache
def _routine(name: str) -> Any:
    """Take a routine out of scipy's table; ctypes gives Python's lock back while it runs."""
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
    work = np.empty(1 + 6 * n + 2 * n * n, dtype=matrix.dtype)
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
