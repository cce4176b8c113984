"""How long does it take to read responses as a release stores them, and in how much memory?

    python benchmarks/loading.py --sessions 1 4 --out loading.json

Writes sessions of the Natural Scenes Dataset at full size (81 x 104 x 83 voxels, 750 trials, 1.1 GB each, zeros but for
some voxels) into the temporary folder (set TMPDIR), and reads 10,000 of the voxels of one sparse region, in chunks as a
study does, for each number of sessions. Prints the seconds per 10,000 voxels and session, and the peak of what Python
allocates beyond the responses themselves, MB, which must not grow with the sessions. Files are in the page cache when
they are read: from a cold disk it is one random read of 1,500 bytes per voxel and session.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from layouts import nsd as layout

from latentcortex.datasets.nsd import NSD
from latentcortex.study.data import CHUNK_VOXELS

SHAPE = (81, 104, 83)
N_VOXELS = 10_000


def write(root: Path, n_sessions: int) -> None:
    """Write a release of one participant; the sessions are one file with several names."""
    release = layout.NSD(root, shape=SHAPE, sessions=range(1, n_sessions + 1))
    release.write_experiment()
    release.write_images()
    release.write_regions("01")
    first = release.betas("01") / "betas_session01.hdf5"
    layout.write_hdf5(first, np.zeros((*SHAPE, layout.TRIALS), dtype=np.int16))
    for session in range(2, n_sessions + 1):
        os.link(first, first.with_name(f"betas_session{session:02d}.hdf5"))


def measured(root: Path, n_sessions: int) -> dict[str, float]:
    """Read the voxels once for the time, and once for the memory."""
    dataset = NSD(str(root), rois=["streams/ventral", "streams/lateral"], n_sessions=n_sessions)
    chunks = [slice(start, min(start + CHUNK_VOXELS, N_VOXELS)) for start in range(0, N_VOXELS, CHUNK_VOXELS)]
    dataset.rows("01"), dataset.space("01")
    start = time.perf_counter()
    for chunk in chunks:
        dataset.responses("01", chunk)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    held = dataset.responses("01", chunks[0]).data.nbytes
    peak = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    return {"sessions": n_sessions, "seconds_per_session": seconds / n_sessions, "peak_beyond_responses_mb": peak / 1e6}


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), max(given.sessions))
        rows = [measured(Path(folder), n) for n in given.sessions]
    for row in rows:
        print(json.dumps(row))
    if given.out:
        given.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
