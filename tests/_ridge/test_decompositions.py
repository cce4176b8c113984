"""Decompositions that are kept on disk: the same bits, made once, within their room."""

import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latentcortex import estimators
from latentcortex._ridge import decompositions, lapack
from latentcortex._ridge.decompositions import keeping
from latentcortex.estimators.banded_ridge import BandedRidge

MIN_SIZE = 100
ALPHAS = np.logspace(0, 4, 3)
N_MIXTURES = 7


def planted(n: int, dims: int, dtype: type = np.float32) -> tuple[dict, np.ndarray]:
    rng = np.random.default_rng(n + dims)
    bands = {"z": rng.standard_normal((n, dims)), "c": rng.standard_normal((n, dims))}
    y = np.linspace(0, 2, 40) * (bands["z"][:, :3] @ rng.standard_normal((3, 40)) + bands["c"][:, :1])
    return bands, (y + rng.standard_normal(y.shape)).astype(dtype)


def sha_of_fit(bands: dict, y: np.ndarray, **options: object) -> str:
    weights = options.pop("weights", None)
    estimator = BandedRidge(**{"alphas": ALPHAS, "selection": "gcv", "cv": 2, **options})
    model = estimators.prepare(estimator, bands, sample=y, sample_weight=weights).fit(y)
    arrays = [model.alphas_, model.mixtures_, model.cv_scores_, model.offset_, model.dual(), model.predict(bands)]
    arrays += [inner.predict({b: bands[b] for b in inner.bands}) for inner in model.nested().values()]
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


@pytest.fixture(autouse=True)
def _worth_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows than usual, so that tests are fast."""
    monkeypatch.setattr(decompositions, "MIN_SIZE", MIN_SIZE)


@pytest.fixture
def decomposed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all that was decomposed."""
    sizes: list[int] = []
    true_eigh = lapack.eigh

    def counted(matrix: np.ndarray) -> tuple:
        sizes.append(len(matrix))
        return true_eigh(matrix)

    monkeypatch.setattr(lapack, "eigh", counted)
    return sizes


@pytest.mark.parametrize(
    ("selection", "n", "dims", "dtype", "fit_intercept"),
    [
        ("gcv", 520, 300, np.float32, True),  # kernels, in float32
        ("gcv", 120, 150, np.float64, False),
        ("loo", 200, 60, np.float32, True),  # columns
        ("kfold", 220, 200, np.float64, True),
        ("kfold", 220, 52, np.float64, True),
        pytest.param("kfold", 1100, 600, np.float32, True, marks=pytest.mark.slow),
        pytest.param("kfold", 1100, 250, np.float32, False, marks=pytest.mark.slow),
    ],
)
def test_a_second_fit_to_the_same_rows_decomposes_nothing_and_has_the_same_bits(
    selection: str, n: int, dims: int, dtype: type, fit_intercept: bool, decomposed: list[int], tmp_path: Path
) -> None:
    bands, y = planted(n, dims, dtype)
    options = {"selection": selection, "fit_intercept": fit_intercept}
    without = sha_of_fit(bands, y, **options)
    n_made = len(decomposed)
    assert min(decomposed) >= 100
    with keeping(tmp_path, max_bytes=None):
        assert sha_of_fit(bands, y, **options) == without
        assert len(decomposed) == 2 * n_made
        assert sha_of_fit(bands, y, **options) == without
    with keeping(tmp_path, max_bytes=None):
        assert sha_of_fit({band: x.copy() for band, x in bands.items()}, y, **options) == without
    assert len(decomposed) == 2 * n_made
    sha_of_fit(bands, y, **options)
    assert len(decomposed) == 3 * n_made  # outside of the block nothing is kept


def test_whatever_a_decomposition_depends_on_makes_another_one(decomposed: list[int], tmp_path: Path) -> None:
    bands, y = planted(101, 150, np.float64)
    options: dict = {"mixtures": np.array([[0.5, 0.5]]), "selection": "loo"}
    moved = {**bands, "c": bands["c"].copy()}
    moved["c"][7, 3] += 1e-9
    weights = np.ones(101)
    weights[5] = 2
    others = [
        (bands, {**options, "mixtures": np.array([[0.25, 0.75]])}),
        (moved, options),
        (bands, {**options, "weights": weights}),
        (bands, {**options, "fit_intercept": False}),
        ({"c": bands["c"], "z": bands["z"]}, options),
    ]
    with keeping(tmp_path, max_bytes=None):
        estimators.prepare(BandedRidge(**options), bands, sample=y).fit(y)
        for known, (rows, own) in enumerate(others, start=1):
            assert len(decomposed) == known
            given = own.get("weights")
            estimator = BandedRidge(**{name: value for name, value in own.items() if name != "weights"})
            estimators.prepare(estimator, rows, sample=y, sample_weight=given).fit(y)
    assert len(decomposed) == 1 + len(others)


def test_the_room_is_kept_and_what_does_not_fit_is_made_again(decomposed: list[int], tmp_path: Path) -> None:
    bands, y = planted(120, 150)
    room = 3 * 120 * 120 * 8 + 5000
    without = sha_of_fit(bands, y)
    for _ in range(2):
        with keeping(tmp_path, max_bytes=room):
            assert sha_of_fit(bands, y) == without
        sizes = [path.stat().st_size for path in tmp_path.iterdir()]
        assert 0 < sum(sizes) <= room
    assert len(decomposed) > 2 * N_MIXTURES


def test_without_any_room_nothing_is_kept_and_nothing_is_said_of_it(tmp_path: Path, caplog) -> None:
    bands, y = planted(120, 150)
    without = sha_of_fit(bands, y)
    caplog.clear()
    with caplog.at_level(logging.INFO), keeping(tmp_path / "scratch", max_bytes=0):
        assert sha_of_fit(bands, y) == without
    assert not (tmp_path / "scratch").exists()
    assert "not kept" not in caplog.text


def test_few_rows_are_not_worth_a_file(tmp_path: Path) -> None:
    bands, y = planted(MIN_SIZE - 1, 300)
    with keeping(tmp_path, max_bytes=None):
        sha_of_fit(bands, y)
    assert not list(tmp_path.iterdir())


def test_what_was_damaged_is_made_again(
    decomposed: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bands, y = planted(120, 150)
    without = sha_of_fit(bands, y)
    with keeping(tmp_path, max_bytes=None):
        sha_of_fit(bands, y)
        n_made = len(decomposed)
        whole = sorted(path for path in tmp_path.iterdir() if path.stat().st_size > 50_000)
        whole[0].write_bytes(whole[0].read_bytes()[:-100])
        content = bytearray(whole[1].read_bytes())
        content[len(content) // 2] ^= 1
        whole[1].write_bytes(content)
        assert sha_of_fit(bands, y) == without
    assert len(decomposed) == n_made + 2
    assert sum("is damaged" in record.getMessage() for record in caplog.records) == 2


def test_a_disk_that_takes_nothing_costs_time_and_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bands, y = planted(120, 150)
    without = sha_of_fit(bands, y)
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with caplog.at_level(logging.WARNING), keeping(tmp_path / "file" / "scratch", max_bytes=None):
        assert sha_of_fit(bands, y) == without
    assert sum("keeps no decompositions" in record.getMessage() for record in caplog.records) == 1


GROWN = """
import json, re, sys
from pathlib import Path
import numpy as np
from contextlib import nullcontext
from latentcortex import estimators
from latentcortex._ridge.decompositions import keeping
from latentcortex.estimators.banded_ridge import BandedRidge

def anonymous():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

rng = np.random.default_rng(0)
y = rng.standard_normal((900, 50)).astype(np.float32)
kept, grown = [], []
with nullcontext() if sys.argv[1] == "in memory" else keeping(Path(sys.argv[1]), max_bytes=None):
    for k in range(6):
        x = rng.standard_normal((900, 1000))
        before = anonymous()
        kept.append(estimators.prepare(BandedRidge(selection="kfold"), {"z": x @ x.T / 1000}, sample=y, by="gram"))
        kept[-1].fit(y).dual()
        del x
        grown.append(anonymous() - before)
print(json.dumps(grown))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells of no memory")
def test_what_many_models_have_decomposed_takes_no_memory(tmp_path: Path) -> None:
    grown = {}
    for where in ("in memory", str(tmp_path)):
        done = subprocess.run([sys.executable, "-c", GROWN, where], capture_output=True, text=True, check=True)
        grown[where] = sum(json.loads(done.stdout)[1:]) / 5
    print({where: f"{n / 1e6:.1f} MB by model" for where, n in grown.items()})
    # A kernel of (900, 900) is 6.5 MB; five folds of (720, 720) and (180, 720), and (900, 900), in float32 are 17 MB.
    assert grown["in memory"] > 20e6
    assert grown[str(tmp_path)] < 4e6
