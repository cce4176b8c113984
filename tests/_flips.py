"""Files with one flipped bit: what is read of them is the same, or one line says that it is damaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from latentcortex.errors import LatentcortexError


def some_bits(content: bytes, n: int, seed: int = 0) -> list[int]:
    """Draw so many bits of a file, without repetition."""
    n_bits = 8 * len(content)
    return np.random.default_rng(seed).choice(n_bits, min(n, n_bits), replace=False).tolist()


def flipped(content: bytes, bits: Iterable[int]) -> Iterator[bytes]:
    """Flip one bit after the other."""
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def read_or_one_line(read):
    """Return what is read; or None, where the damage is told in one line. Any other exception passes."""
    told = None
    try:
        return read()
    except LatentcortexError as error:
        told = str(error)
    assert told
    assert "\n" not in told
    assert len(told) < 1000
    return None
