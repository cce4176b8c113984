from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latentcortex import extract
from latentcortex._store import Store
from latentcortex.errors import IncompleteError, InputError
from latentcortex.extraction import check_room, verify
from latentcortex.extractors import make
from latentcortex.extractors.pixels import Pixels
from latentcortex.features import MANIFEST

IDS = [f"s{i:03d}" for i in range(120)]

FORKS = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np, pandas as pd
from latentcortex import extract, Stimuli
from latentcortex.extractors import make
from latentcortex.extractors.pixels import Pixels

ids = [f"s{i:04d}" for i in range(1500)]
def load(name):
    return np.random.default_rng(int(name[1:])).integers(0, 256, (8, 8, 3), dtype=np.uint8)
stimuli = Stimuli(pd.DataFrame({"captions": [()] * len(ids)}, index=ids), load)

def start(store):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            extract(stimuli, make("pixels", size=8), store=store, progress=False)
            code = 0
        finally:
            os._exit(code)
    return pid

def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

began = time.monotonic()
assert end(start("whole")) == 0
took = time.monotonic() - began
"""
"""A process that starts others which extract, without importing anything again."""


@pytest.fixture
def stimuli(pictures):
    return pictures(IDS)


def run(stimuli, store: Path, **arguments):
    return extract(stimuli, make("pixels", size=4), store=store, progress=False, **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_store_gives_what_the_extractor_gives(stimuli, tmp_path: Path) -> None:
    features = run(stimuli, tmp_path)
    extractor = make("pixels", size=4)
    expected = extractor.extract(stimuli.images(IDS), stimuli.captions(IDS), IDS, ["pixels"])["pixels"]
    np.testing.assert_array_equal(features.array("pixels"), expected)
    assert features.ids == tuple(IDS)
    assert features.made_by["size"] == 4
    verify(features)


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(stimuli, tmp_path: Path) -> None:
    whole = contents(run(stimuli, tmp_path / "a").folder)
    folder = run(stimuli, tmp_path / "b").folder
    (folder / MANIFEST).unlink()
    (folder / "block-0001.arrays").unlink()
    damaged = bytearray((folder / "block-0002.arrays").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "block-0002.arrays").write_bytes(bytes(damaged))
    kept = (folder / "block-0000.arrays").stat().st_mtime_ns
    run(stimuli, tmp_path / "b")
    assert contents(folder) == whole
    assert (folder / "block-0000.arrays").stat().st_mtime_ns == kept


def forked(script: str, folder: Path) -> dict[str, dict[str, bytes]]:
    """Run what follows FORKS; return what is in each store."""
    subprocess.run([sys.executable, "-c", FORKS + script], cwd=folder, check=True, timeout=500)
    return {store.name: contents(next(store.iterdir())) for store in folder.iterdir()}


@pytest.mark.parametrize("n_kills", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_runs_killed_at_any_time_end_in_the_same_bytes(tmp_path: Path, n_kills: int) -> None:
    kill = f"""
random.seed(0)
n_killed = n_round = 0
while n_killed < {n_kills}:
    pid = start(f"killed{{n_round}}")
    time.sleep(random.random() * took / 2)
    os.kill(pid, signal.SIGKILL)
    code = end(pid)
    n_killed += code == -signal.SIGKILL
    n_round += code == 0
assert end(start(f"killed{{n_round}}")) == 0
"""
    whole, *others = sorted(forked(kill, tmp_path).items(), reverse=True)
    assert whole[0] == "whole"
    assert others
    assert all(found == whole[1] for _, found in others)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_block_that_may_not_be_read_is_not_called_damaged(stimuli, tmp_path: Path, monkeypatch, number: int) -> None:
    features = run(stimuli, tmp_path)

    def refused(path: Path, *_: object) -> None:
        raise OSError(number, "refused", str(path))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(OSError, match=r"refused: '.*block-0000\.arrays'"):
        features.array("pixels")


def test_two_processes_on_one_store_end_in_the_bytes_of_one(tmp_path: Path) -> None:
    both = """
pids = [start("both"), start("both")]
assert [end(pid) for pid in pids] == [0, 0]
"""
    stores = forked(both, tmp_path)
    assert stores["both"] == stores["whole"]


def other_bands(store: Store) -> None:
    store.save("block-0000", {"other": np.ones((50, 16), dtype=np.float32)})


def fewer_stimuli(store: Store) -> None:
    store.save("block-0000", {"pixels": np.ones((49, 16), dtype=np.float32)})


def cut(store: Store) -> None:
    path = store.path("block-0000")
    path.write_bytes(path.read_bytes()[:-64])


def emptied(store: Store) -> None:
    store.path("block-0000").write_bytes(b"")


@pytest.mark.parametrize("damage", [other_bands, fewer_stimuli, cut, emptied])
def test_a_block_that_is_not_what_it_should_be_is_computed_again(stimuli, tmp_path: Path, damage) -> None:
    folder = run(stimuli, tmp_path).folder
    whole = contents(folder)
    (folder / MANIFEST).unlink()
    damage(Store(folder))
    run(stimuli, tmp_path)
    assert contents(folder) == whole


def test_a_block_that_is_gone_is_computed_again(stimuli, tmp_path: Path) -> None:
    folder = run(stimuli, tmp_path).folder
    (folder / "block-0001.arrays").unlink()
    assert run(stimuli, tmp_path).array("pixels").shape == (120, 16)


def test_nothing_is_computed_again_when_finished(stimuli, tmp_path: Path, monkeypatch) -> None:
    folder = run(stimuli, tmp_path).folder
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr("latentcortex.extractors.pixels.Pixels.extract", None)
    run(stimuli, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_other_pixels_captions_or_parameters_are_another_store(stimuli, pictures, tmp_path: Path) -> None:
    folders = {
        run(stimuli, tmp_path).folder,
        run(pictures(IDS, size=8), tmp_path).folder,
        run(stimuli.select_stimuli(IDS[::-1]), tmp_path).folder,
        extract(stimuli, make("pixels", size=5), store=tmp_path, progress=False).folder,
    }
    assert len(folders) == 4
    assert run(pictures(IDS), tmp_path).folder in folders


def test_damage_is_found_by_verify(stimuli, tmp_path: Path) -> None:
    features = run(stimuli, tmp_path)
    path = features.folder / "block-0000.arrays"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(IncompleteError, match="does not match its hash"):
        verify(features)


def test_a_feature_that_is_not_finite_names_its_stimulus(stimuli, tmp_path: Path, monkeypatch) -> None:
    def spoiled(self, images, captions, hashes, bands):
        values = np.ones((len(images), 3))
        values[7] = np.inf
        return {"pixels": values}

    monkeypatch.setattr("latentcortex.extractors.pixels.Pixels.extract", spoiled)
    with pytest.raises(InputError, match="Band pixels is not finite for s007"):
        run(stimuli, tmp_path)


def test_an_unknown_band_is_an_input_error_before_any_work(stimuli, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'pixels'"):
        run(stimuli, tmp_path, bands=["pixel"])
    assert not list(tmp_path.iterdir())


def test_a_latent_diffusion_model_is_extracted(tiny_model: Path, pictures, tmp_path: Path) -> None:
    stimuli = pictures(["a", "b", "c"])
    model = make("ldm", model=str(tiny_model), n_steps=10)
    features = extract(stimuli, model, bands=["z", "c"], store=tmp_path, progress=False)
    assert features.dims == {"z": 256, "c": 16 * 12}
    alone = extract(stimuli.select_stimuli(["b"]), model, bands=["z", "c"], store=tmp_path, progress=False)
    for band in ("z", "c"):
        np.testing.assert_array_equal(alone.array(band), features.array(band, ["b"]))


class Wide(Pixels):
    """Says that its features are wide, or how wide they are."""

    width = 10**12

    def dims(self, bands):
        return dict.fromkeys(bands, self.width)


def test_features_that_have_no_room_are_told_before_there_is_a_folder(stimuli, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The features need 480000\.0 GB"):
        check_room(stimuli, Wide(size=4), ["pixels"], store=tmp_path / "store")
    assert not (tmp_path / "store").exists()
    run(stimuli, tmp_path / "store")
    check_room(stimuli, Wide(size=4), ["pixels"], store=tmp_path / "store")  # what is there needs no more
