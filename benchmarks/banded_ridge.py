"""How long does banded ridge take, how do its time and memory grow, and how well does it predict, against peers?

    python benchmarks/banded_ridge.py --out banded_ridge.json
    python benchmarks/banded_ridge.py --peers himalaya-torch himalaya-group sklearn --memory --limit --out peers.json
    python benchmarks/banded_ridge.py --growth voxels --doublings 3 --voxels 1000 --out voxels.json
    python benchmarks/banded_ridge.py --runs 0 --memory-voxels 20000 200000 1000000 --out memory.json
    python benchmarks/banded_ridge_plot.py --from rows.json voxels.json --plot docs/banded_ridge.png

All get the same rows, float32 responses and cores (limit them with taskset, which all obey), and each is timed over its
fit and the prediction of 300 held-out rows. Runs are interleaved; what is reported is the ratio of median wall times
within one run of this script, and the mean R² of each on the held-out rows. A tiny fit of each, not counted, loads what
it needs.

From one centred Gram matrix per band, whose own seconds are reported once for all as `gram_seconds`:

- latentcortex: BandedRidge with its defaults.
- himalaya-numpy, himalaya-torch: MultipleKernelRidgeCV, which searches ten mixtures (whatever the number of bands) and
  twenty penalties by five folds, in batches as its documentation recommends, with each of its backends.

From the feature arrays, centred and scaled as the Gram matrices are:

- latentcortex-arrays: BandedRidge again, which makes kernels or takes columns, whichever are fewer.
- himalaya-group: GroupRidgeCV, the same search by singular values of the features, with torch where it is installed.
  himalaya itself advises kernels where features are more than rows.
- sklearn: RidgeCV with the same twenty penalties by leave-one-out, in float64, on all bands side by side. It chooses
  one penalty per voxel for all bands together: a different, smaller question, so `fastest_peer` is never this one.

`--growth` doubles one axis and gives the slope of log2 seconds per doubling: 1 is linear, 2 quadratic. Up to 300 rows
ours selects by folds, and up to 512 it works in float64, so start above.

`--memory` fits each solver in a fresh process and gives the peak of its anonymous memory (RssAnon, which leaves out
mapped files; Linux), in MiB, less what it had before the fit: during the fit, and during the prediction. It is read
every 5 ms from outside, since scipy keeps Python's lock through whole decompositions. `predicted` is what
`BandedRidge.memory` says of the fit. `--memory-voxels` does it for ours alone with responses in a float32 file, made in
the temporary folder (set TMPDIR: 1,000,000 voxels are 7 GB), predicting 8,192 voxels at a time.

`--limit` times what no fit that tries our mixtures can go without: one float32 eigendecomposition per mixture, and one
product of a kernel with all responses per mixture, in as many threads as cores.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from latentcortex import BandedRidge, Features, scoring
from latentcortex._arrays import FloatArray, tiles
from latentcortex._ridge.candidates import default_mixtures
from latentcortex._ridge.lapack import eigh
from latentcortex.executors import n_cores, share

N_TEST = 300
AT_ONCE = 8192
"""Voxels that are drawn or predicted together where responses are on disk."""
EVERY = 0.005
"""Seconds between two looks at a process's memory."""
PENALTIES = np.logspace(-2, 7, 20)
BATCHES = {"n_targets_batch": 1000, "n_alphas_batch": 5, "n_targets_batch_refit": 200}
SEARCH = {"n_iter": 10, "alphas": PENALTIES, "progress_bar": False, **BATCHES}
Arrays = dict[str, FloatArray]
Predict = Callable[[], FloatArray]
Stages = Iterator[dict[str, float]]


# What is fitted


@dataclass(frozen=True)
class Size:
    """How large a problem is; `dims` are those of each band."""

    rows: int
    dims: int
    voxels: int
    bands: int


@dataclass(frozen=True, eq=False)
class Data:
    """What solvers get: Gram matrices, or features that are centred and scaled as these are; and the responses."""

    inner: Arrays
    across: Arrays
    x: Arrays
    new: Arrays
    y: FloatArray
    truth: FloatArray
    gram_seconds: float

    @classmethod
    def of(cls, size: Size) -> Data:
        rng = np.random.default_rng(0)
        x = features(size, rng)
        y = responses(x, size.voxels, rng)
        started = time.perf_counter()
        inner, across = grams(x, size.rows)
        seconds = time.perf_counter() - started
        x = {band: scaled(values, size.rows) for band, values in x.items()}
        fitted, new = ({band: values[some] for band, values in x.items()} for some in halves(size.rows))
        return cls(inner, across, fitted, new, y[: size.rows], y[size.rows :], seconds)


def features(size: Size, rng: np.random.Generator) -> Arrays:
    shape = (size.rows + N_TEST, size.dims)
    return {f"band{b}": rng.standard_normal(shape, dtype=np.float32) for b in range(size.bands)}


def responses(x: Arrays, n_voxels: int, rng: np.random.Generator) -> FloatArray:
    """Draw responses that follow the bands in all proportions, under noise as strong as the signal."""
    cuts = np.sort(rng.random((len(x) - 1, n_voxels), dtype=np.float32), axis=0)
    shares = np.diff(cuts, axis=0, prepend=np.float32(0), append=np.float32(1))
    parts = (drawn(values, n_voxels, rng) for values in x.values())
    signal = sum(np.sqrt(share) * part for share, part in zip(shares, parts, strict=True))
    return np.asarray(signal + rng.standard_normal(signal.shape, dtype=np.float32), dtype=np.float32)


def drawn(values: FloatArray, n_voxels: int, rng: np.random.Generator) -> FloatArray:
    n_dims = values.shape[1]
    return np.asarray(values @ rng.standard_normal((n_dims, n_voxels), dtype=np.float32) / n_dims**0.5)


def halves(n_rows: int) -> tuple[slice, slice]:
    return slice(n_rows), slice(n_rows, None)


def grams(x: Arrays, n_rows: int) -> tuple[Arrays, Arrays]:
    """Make Gram matrices among the fitted rows, and of the held-out rows with these."""
    ids = [f"s{i}" for i in range(n_rows + N_TEST)]
    known = Features.from_arrays(ids, x)
    fit, test = (ids[some] for some in halves(n_rows))
    inner, across = ({b: known.gram(b, some, fit, fit_on=fit) for b in x} for some in (fit, test))
    return inner, across


def scaled(values: FloatArray, n_rows: int) -> FloatArray:
    """Centre features and divide them so that their kernel's mean diagonal is 1, both over the fitted rows."""
    centred = values - values[:n_rows].mean(0)
    return np.asarray(centred / np.sqrt((centred[:n_rows] ** 2).sum(1).mean()))


# Who fits it


def ours(data: Data) -> Predict:
    model = BandedRidge().fit_gram(data.inner, data.y)
    return lambda: model.predict_gram(data.across).sum(0) + model.intercept_


def ours_from_arrays(data: Data) -> Predict:
    model = BandedRidge().fit(data.x, data.y)
    return lambda: model.predict(data.new)


def himalaya(backend: str, data: Data) -> Predict:
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import MultipleKernelRidgeCV

    own = set_backend(backend)
    model = MultipleKernelRidgeCV(
        kernels="precomputed", solver="random_search", solver_params=SEARCH, cv=5, random_state=0
    )
    mean = data.y.mean(0)
    model.fit(own.asarray(np.stack(list(data.inner.values())), "float32"), own.asarray(data.y - mean))
    new = own.asarray(np.stack(list(data.across.values())), "float32")
    return lambda: own.to_numpy(model.predict(new)) + mean


def himalaya_group(data: Data) -> Predict:
    from himalaya.backend import set_backend
    from himalaya.ridge import GroupRidgeCV

    own = set_backend("torch" if find_spec("torch") else "numpy")
    settings = {**SEARCH, "warn": False}
    model = GroupRidgeCV(groups="input", solver="random_search", solver_params=settings, cv=5, random_state=0)
    mean = data.y.mean(0)
    model.fit([own.asarray(values) for values in data.x.values()], own.asarray(data.y - mean))
    new = [own.asarray(values) for values in data.new.values()]
    return lambda: own.to_numpy(model.predict(new)) + mean


def sklearn(data: Data) -> Predict:
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(PENALTIES, alpha_per_target=True).fit(np.hstack(list(data.x.values())), data.y)
    return lambda: model.predict(np.hstack(list(data.new.values())))


SOLVERS: dict[str, Callable[[Data], Predict]] = {
    "latentcortex": ours,
    "latentcortex-arrays": ours_from_arrays,
    "himalaya-numpy": partial(himalaya, "numpy"),
    "himalaya-torch": partial(himalaya, "torch"),
    "himalaya-group": himalaya_group,
    "sklearn": sklearn,
}


# Seconds


def timed(data: Data, names: Sequence[str], *, runs: int, with_limit: bool) -> dict[str, Any]:
    """Time all solvers in turn, again and again."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    fits: dict[str, list[float]] = {name: [] for name in names}
    r2, limits = {}, []
    for _ in range(runs):
        for name in names:
            fit, total, r2[name] = once(SOLVERS[name], data)
            fits[name].append(fit)
            seconds[name].append(total)
        if with_limit:
            limits.append(limit(data))
    out = {
        "seconds": {name: rounded(values) for name, values in seconds.items()},
        "fit_seconds": {name: rounded(values) for name, values in fits.items()},
        "mean_r2": {name: round(score, 5) for name, score in r2.items()},
        **ratios({name: median(values) for name, values in seconds.items()}),
    }
    return out | ({"limit": against(limits, median(fits["latentcortex"]))} if with_limit else {})


def once(solver: Callable[[Data], Predict], data: Data) -> tuple[float, float, float]:
    """Return the seconds of the fit, and of fit and prediction, and the mean R² on the held-out rows."""
    started = time.perf_counter()
    predict = solver(data)
    fitted = time.perf_counter()
    predicted = predict()
    done = time.perf_counter()
    return fitted - started, done - started, float(scoring.r2(data.truth, predicted).mean())


def ratios(medians: dict[str, float]) -> dict[str, Any]:
    """Divide each peer's median by ours, and name the fastest peer of those that choose a mixture of bands."""
    out = {name: round(value / medians["latentcortex"], 2) for name, value in medians.items() if name != "latentcortex"}
    same = [name for name in out if name.startswith("himalaya")]
    if not same:
        return {"ratios": out}
    fastest = min(same, key=medians.__getitem__)
    return {"ratios": out, "fastest_peer": fastest, "ratio_of_medians": out[fastest]}


def limit(data: Data) -> tuple[float, float]:
    """Time the eigendecompositions and the products that every search over our mixtures needs."""
    mixtures = default_mixtures(len(data.inner), seed=0)
    kernels = [np.tensordot(mixture, list(data.inner.values()), 1).astype(np.float32) for mixture in mixtures]
    blocks = [(kernel, tile) for kernel in kernels for tile in tiles(data.y.shape[1])]

    def product(block: tuple[FloatArray, slice]) -> None:
        kernel, tile = block
        kernel @ data.y[:, tile]

    started = time.perf_counter()
    share(eigh, kernels)
    decomposed = time.perf_counter()
    share(product, blocks)
    return decomposed - started, time.perf_counter() - decomposed


def against(limits: Sequence[tuple[float, float]], fit: float) -> dict[str, float]:
    decompositions, products = (median(part) for part in zip(*limits, strict=True))
    both = median(sum(one) for one in limits)
    parts = {"eigendecompositions": decompositions, "products": products, "seconds": both, "fit_seconds": fit}
    return {name: round(value, 4) for name, value in parts.items()} | {"ratio": round(fit / both, 2)}


def rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


# Memory


def fit_stages(name: str, size: Size) -> Stages:
    """Get ready, fit and predict in memory."""
    warm_up([name], size.bands)
    data = Data.of(size)
    settle()
    yield {}
    predict = SOLVERS[name](data)
    yield {}
    predict()
    yield {}


def disk_stages(size: Size) -> Stages:
    """Get ready, fit ours to responses on disk, and score it chunk by chunk."""
    warm_up(["latentcortex"], size.bands)
    with TemporaryDirectory() as folder:
        inner, across, y = on_disk(Path(folder) / "responses", size)
        settle()
        yield {}
        started = time.perf_counter()
        model = BandedRidge().fit_gram(inner, y[: size.rows])
        yield {"fit_seconds": round(time.perf_counter() - started, 3)}
        started = time.perf_counter()
        r2 = mean_r2(model, across, y[size.rows :])
        yield {"prediction_seconds": round(time.perf_counter() - started, 3), "mean_r2": round(r2, 5)}


def on_disk(path: Path, size: Size) -> tuple[Arrays, Arrays, FloatArray]:
    """Draw Gram matrices, and responses in a file."""
    rng = np.random.default_rng(0)
    x = features(size, rng)
    y = np.memmap(path, dtype=np.float32, mode="w+", shape=(size.rows + N_TEST, size.voxels))
    for some in chunks(size.voxels):
        y[:, some] = responses(x, some.stop - some.start, rng)
    y.flush()
    return *grams(x, size.rows), np.memmap(path, dtype=np.float32, mode="r", shape=y.shape)


def mean_r2(model: BandedRidge, across: Arrays, truth: FloatArray) -> float:
    total = 0.0
    for some in chunks(truth.shape[1]):
        predicted = model.predict_gram(across, voxels=some).sum(0) + model.intercept_[some]
        total += float(scoring.r2(np.asarray(truth[:, some]), predicted).sum())
    return total / truth.shape[1]


def chunks(n_voxels: int) -> list[slice]:
    return [slice(i, min(i + AT_ONCE, n_voxels)) for i in range(0, n_voxels, AT_ONCE)]


def warm_up(names: Sequence[str], n_bands: int) -> None:
    tiny = Data.of(Size(rows=350, dims=20, voxels=50, bands=n_bands))
    for name in names:
        SOLVERS[name](tiny)()


def settle() -> None:
    """Give freed memory back to the system, so that nothing of it is used again unseen."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def peaks(stages: Callable[..., Stages], *arguments: object) -> dict[str, Any]:
    """Walk three stages in a fresh process; return what they tell, and the peaks in MiB above the end of the first."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=walk, args=(there, stages, arguments))
    process.start()
    there.close()
    out, peak = here.recv(), {}
    before = anonymous(process.pid)
    for stage in ("fit", "prediction"):
        here.send("go on")
        highest = before
        while not here.poll(EVERY):
            highest = max(highest, anonymous(process.pid))
        out |= here.recv()
        peak[stage] = round((max(highest, anonymous(process.pid)) - before) / 1024)
    here.send("go on")
    process.join()
    return {"peak_mib": peak, **out}


def walk(pipe: Connection, stages: Callable[..., Stages], arguments: Sequence[object]) -> None:
    """Tell of each stage, and wait for a word before the next."""
    for told in stages(*arguments):
        pipe.send(told)
        pipe.recv()


def anonymous(process: int | None) -> int:
    """Read how many KiB of memory a process has that no file is behind."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)  # none once it has ended


def predicted_mib(size: Size) -> dict[str, int]:
    return {"predicted_mib": round(BandedRidge().memory(size.rows, size.bands, size.voxels) / 2**20)}


def memory(names: Sequence[str], size: Size) -> dict[str, Any]:
    found = {name: peaks(fit_stages, name, size) for name in names}
    found["latentcortex"] |= predicted_mib(size)
    return found


# All of it


def measured(size: Size, names: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    out: dict[str, Any] = asdict(size)
    if given.runs:
        data = Data.of(size)
        out["gram_seconds"] = round(data.gram_seconds, 4)
        out |= timed(data, names, runs=given.runs, with_limit=given.limit)
        del data  # or the processes below would have less
    return out | ({"memory": memory(names, size)} if given.memory else {})


def growth(axis: str, base: Size, names: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    """Measure at sizes that double along an axis, and fit the slope of log2 seconds per doubling."""
    sizes = [replace(base, **{axis: getattr(base, axis) * 2**k}) for k in range(given.doublings + 1)]
    found = [measured(size, names, given) for size in sizes]
    out: dict[str, Any] = {"axis": axis, "measured": found}
    if given.runs:
        medians = {name: [median(one["seconds"][name]) for one in found] for name in names}
        medians["gram"] = [one["gram_seconds"] for one in found]
        out["exponents"] = {name: round(slope(values), 2) for name, values in medians.items()}
    return out


def slope(seconds: Sequence[float]) -> float:
    return float(np.polyfit(range(len(seconds)), np.log2(seconds), 1)[0])


def surroundings() -> dict[str, Any]:
    packages = {"latentcortex": "latentcortex", "himalaya": "himalaya", "sklearn": "scikit-learn", "torch": "torch"}
    known = ["numpy", "scipy", *(package for module, package in packages.items() if find_spec(module))]
    return {
        "versions": {name: version(name) for name in known},
        "machine": f"{platform.processor() or platform.machine()}, {n_cores()} of {os.cpu_count()} cores",
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--dims", type=int, default=1000, help="of each band")
    parser.add_argument("--voxels", type=int, default=4000)
    parser.add_argument("--bands", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3, help="0 measures no time")
    parser.add_argument("--peers", nargs="*", choices=list(SOLVERS)[1:], help="by default himalaya with each backend")
    parser.add_argument("--growth", choices=list(asdict(Size(0, 0, 0, 0))), help="double this")
    parser.add_argument("--doublings", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="peak anonymous memory of each solver")
    parser.add_argument("--memory-voxels", type=int, nargs="+", default=[], help="the same of ours, responses on disk")
    parser.add_argument("--limit", action="store_true", help="what no fit can go without")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.peers is None:
        given.peers = ["himalaya-numpy", *(["himalaya-torch"] if find_spec("torch") else [])]
    if given.growth and given.doublings < 1:
        parser.error("--growth needs at least one of --doublings")
    return given


def main() -> None:
    given = parsed()
    base = Size(given.rows, given.dims, given.voxels, given.bands)
    names = ["latentcortex", *dict.fromkeys(given.peers)]
    result: dict[str, Any] = {"settings": {k: v for k, v in vars(given).items() if k != "out"}}
    if given.runs:
        warm_up(names, given.bands)
    if given.growth:
        result["growth"] = growth(given.growth, base, names, given)
    elif given.runs or given.memory:
        result |= measured(base, names, given)
    if given.memory_voxels:
        sizes = [replace(base, voxels=n) for n in given.memory_voxels]
        result["on_disk"] = [{"voxels": s.voxels, **peaks(disk_stages, s), **predicted_mib(s)} for s in sizes]
    text = json.dumps(result | surroundings(), indent=2)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
