"""Seconds and peak memory of each stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil

from latentcortex.executors import called_every

INTERVAL: Final = 0.1
"""Seconds between two looks at memory."""


class StageTimer:
    """A stopwatch that also looks at memory, summed over this process and its children."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, float]] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure one stage; a stage that comes again adds its seconds."""
        peak = [_resident()]

        def measure() -> None:
            peak[0] = max(peak[0], _resident())

        started = time.perf_counter()
        try:
            with called_every(measure, seconds=INTERVAL):
                yield
        finally:
            row = self._rows.setdefault(name, {"seconds": 0.0, "peak_bytes": 0.0})
            row["seconds"] += time.perf_counter() - started
            row["peak_bytes"] = max(row["peak_bytes"], peak[0], _resident())

    def table(self) -> list[dict[str, object]]:
        """Return one row per stage: `stage`, `seconds`, `peak_bytes`."""
        return [
            {"stage": name, "seconds": round(row["seconds"], 2), "peak_bytes": int(row["peak_bytes"])}
            for name, row in self._rows.items()
        ]


def _resident() -> float:
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it ended while we looked, or is somebody else's
            continue
    return total
