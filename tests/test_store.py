"""Parts of results: whole or not there, whoever else writes, and in no more room than they may have."""

from __future__ import annotations

import copy
import dataclasses
import errno
import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from latentcortex import _files
from latentcortex._store import ALIGNMENT_BYTES, SUFFIX, Store, let_go
from latentcortex.errors import IncompleteError

ARRAYS = {
    "r": np.linspace(-1, 1, 70, dtype=np.float32).reshape(2, 35),
    "kept": np.array([True, False, True]),
    "count": np.arange(5),
    "half": np.ones((2, 3), dtype=np.float16),
    "seed": np.array(7, dtype=np.uint8),
    "none": np.empty((0, 4)),
}
FACTS = {"columns": [{"statistic": "r", "unit": "correlation"}], "alpha": 0.1, "who": "Zoë", "undefined": None}


def saved(folder: Path, key: str = "k") -> Store:
    store = Store(folder)
    store.save(key, ARRAYS, FACTS)
    return store


@pytest.mark.parametrize("mmap", [False, True])
def test_a_part_comes_back_as_it_was_saved(tmp_path: Path, mmap: bool) -> None:
    part = saved(tmp_path).load("k", mmap=mmap)
    assert part is not None
    assert part.facts == FACTS
    assert list(part.arrays) == list(ARRAYS)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(part.arrays[name], values)
        assert part.arrays[name].dtype == values.dtype
        assert part.arrays[name].shape == values.shape
        assert part.arrays[name].flags.writeable != mmap


def test_layouts_and_orders_of_bytes_are_brought_to_one(tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(3, 4)
    for key, given in {"c": values, "f": np.asfortranarray(values), "big": values.astype(">f8")}.items():
        Store(tmp_path).save(key, {"x": given})
        part = Store(tmp_path).load(key)
        assert part is not None
        np.testing.assert_array_equal(part.arrays["x"], values)
    sizes = {path.stat().st_size for path in tmp_path.iterdir()}
    assert all(size % ALIGNMENT_BYTES == 0 for size in sizes)


def test_a_map_starts_where_a_processor_reads_fast(tmp_path: Path) -> None:
    Store(tmp_path).save("k", {name: np.ones(n, dtype=np.float32) for name, n in (("x", 20_001), ("y", 30_003))})
    part = Store(tmp_path).load("k", mmap=True)
    assert part is not None
    assert all(values.ctypes.data % ALIGNMENT_BYTES == 0 for values in part.arrays.values())


def test_named_arrays_are_read_alone(tmp_path: Path) -> None:
    store = saved(tmp_path)
    part = store.load("k", names=["kept"])
    assert part is not None
    assert list(part.arrays) == ["kept"]
    assert store.load("k", names=["kept", "absent"]) is None


def test_rows_of_an_array_are_read_alone_and_never_those_of_a_damaged_one(tmp_path: Path, monkeypatch) -> None:
    values, read = np.arange(60_000, dtype=np.float32).reshape(3000, 20), []
    store = Store(tmp_path)
    store.save("k", {"few": np.arange(5), "x": values})
    content = Store.load.__globals__["_content"]
    monkeypatch.setattr("latentcortex._store._content", lambda *given: (read.append(given[1]), content(*given))[1])
    for rows in (slice(7, 9), slice(2990, None), slice(4, 4)):
        np.testing.assert_array_equal(store.take("k", "x", rows=rows), values[rows])
    np.testing.assert_array_equal(store.take("k", "few", rows=slice(1, 3)), [1, 2])
    assert read == ["x", "few"]
    damaged = bytearray(store.path("k").read_bytes())
    damaged[-1] ^= 0x41
    store.path("k").write_bytes(bytes(damaged))
    os.utime(store.path("k"), ns=(0, 10**18))  # clocks of file systems may be too coarse for two writes
    with pytest.raises(IncompleteError, match=r"k\.arrays was deleted or damaged while it was in use"):
        store.take("k", "x", rows=slice(0, 1))


def test_what_is_not_there_is_none_and_needs_no_folder(tmp_path: Path) -> None:
    store = Store(tmp_path / "nowhere")
    assert store.load("k") is None
    assert not store.has("k")
    assert store.keys() == ()
    store.remove(["k"])
    assert not store.folder.exists()


def test_parts_are_listed_and_removed_by_key(tmp_path: Path) -> None:
    store = saved(tmp_path)
    store.save("a.b-c", {})
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / f".latentcortex-host-1-0123abcd-x{SUFFIX}").write_text("half")
    assert store.keys() == ("a.b-c", "k")
    store.remove(["k", "gone"])
    assert store.keys() == ("a.b-c",)
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("key", ["", ".hidden", "../up", "a/b", "x" * 200, "a b", "é"])
def test_a_key_that_is_no_name_of_a_file_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="is no key of a store"):
        Store(tmp_path).save(key, {})


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([None]), np.ones(2, dtype=complex), np.longdouble([1])])
def test_what_is_no_plain_number_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(TypeError, match="Array 'x' is of"):
        Store(tmp_path).save("k", {"x": values})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mmap", [False, True])
def test_a_flipped_byte_anywhere_makes_a_part_count_as_not_there(tmp_path: Path, mmap: bool, caplog) -> None:
    store = saved(tmp_path)
    path, whole = store.path("k"), store.path("k").read_bytes()
    assert store.has("k")
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x41
        path.write_bytes(bytes(damaged))
        assert store.load("k", mmap=mmap) is None, position
    assert f"{path} is damaged" in caplog.text
    path.write_bytes(whole)
    assert store.has("k")


def test_a_truncated_or_foreign_file_counts_as_not_there(tmp_path: Path, caplog) -> None:
    store = saved(tmp_path)
    whole = store.path("k").read_bytes()
    for content in (*(whole[:n] for n in range(0, len(whole), 7)), whole + b"\0", b"\x93NUMPY", b"x" * 1000):
        store.path("k").write_bytes(content)
        assert store.load("k") is None
    store.save("other", {})
    store.path("other").rename(store.path("k"))
    assert store.load("k") is None
    assert "of key 'other'; expected 'latentcortex-part 1' of 'k'" in caplog.text


def test_a_part_of_an_earlier_format_is_not_read(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("latentcortex._store.FORMAT", "latentcortex-part 0")
    store = saved(tmp_path)
    monkeypatch.undo()
    assert store.load("k") is None
    assert "'latentcortex-part 0'" in caplog.text


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_part_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch, number: int) -> None:
    store = saved(tmp_path)

    def refused(path: Path, *_: object) -> None:
        raise OSError(number, "refused", str(path))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(OSError, match="refused"):
        store.load("k")


def test_a_map_is_hashed_once_until_its_file_is_replaced(tmp_path: Path, monkeypatch) -> None:
    big, read = {name: np.arange(20_000.0) for name in "xy"}, []
    store = Store(tmp_path)
    store.save("k", big)
    content = Store.load.__globals__["_content"]
    monkeypatch.setattr("latentcortex._store._content", lambda *given: (read.append(given[1]), content(*given))[1])
    assert store.has("k")
    assert read == list(big)
    assert Store(tmp_path).has("k")
    assert read == list(big)
    store.save("k", big)
    assert store.has("k")
    assert read == 2 * list(big)


def test_a_map_outlives_the_file(tmp_path: Path) -> None:
    store = saved(tmp_path)
    part = store.load("k", mmap=True)
    store.remove(["k"])
    assert part is not None
    np.testing.assert_array_equal(part.arrays["r"], ARRAYS["r"])


def test_what_was_used_longest_ago_makes_way(tmp_path: Path) -> None:
    values = {"x": np.ones(1000)}
    Store(tmp_path).save("size", values)
    one = Store(tmp_path).path("size").stat().st_size
    Store(tmp_path).remove(["size"])
    store = Store(tmp_path, max_bytes=3 * one + ALIGNMENT_BYTES)
    for key in ("a", "b", "c"):
        store.save(key, values)
    for number, key in enumerate(("a", "b", "c")):  # clocks of file systems may be too coarse for three writes
        os.utime(store.path(key), ns=(10**18 + number, 10**18 + number))
    store.load("a")
    store.save("d", values)
    assert store.keys() == ("a", "c", "d")
    store.save("d", values)
    assert store.keys() == ("a", "c", "d")
    store.save("wide", {"x": np.ones(2000)})
    assert store.keys() in {("a", "wide"), ("d", "wide")}  # used in the same tick of the file system's clock
    store.save("widest", {"x": np.ones(4000)})
    assert not store.has("widest")


def test_a_store_goes_to_another_process_by_value(tmp_path: Path) -> None:
    """As cells do that an executor hands to its workers."""
    store = Store(tmp_path, max_bytes=10**6)
    assert copy.deepcopy(store) == store
    assert dataclasses.astuple(store) == (tmp_path, 10**6)


def test_a_use_does_not_change_when_a_part_was_written(tmp_path: Path) -> None:
    saved(tmp_path)
    store = Store(tmp_path, max_bytes=10**6)
    before = store.path("k").stat().st_mtime_ns
    assert store.has("k")
    assert store.path("k").stat().st_mtime_ns == before


def test_many_threads_write_one_key(tmp_path: Path) -> None:
    expected = saved(tmp_path / "alone").path("k").read_bytes()
    threads = [threading.Thread(target=saved, args=(tmp_path / "many",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in (tmp_path / "many").iterdir()] == [expected]


WRITER = """
import sys
from pathlib import Path
import numpy as np
import psutil
from latentcortex._store import Store
store = Store(Path(sys.argv[1]), max_bytes=40_000)
for i in range(60):
    key = f"k{i % 7}"
    part = store.load(key, mmap=bool(i % 2))
    if part is not None:
        assert (part.arrays["x"] == i % 7).all(), key
    store.save(key, {"x": np.full(1000, i % 7, dtype=float)})
"""


def test_processes_share_a_store_with_little_room(tmp_path: Path) -> None:
    """Each reads what others delete and replace; none ever sees half of a part."""
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40_000 + 2 * 8_300
    assert all(not _files.UNFINISHED.fullmatch(path.name) for path in tmp_path.iterdir())


MANY = """
import resource, sys
from pathlib import Path
import numpy as np
from latentcortex._store import Store
store = Store(Path(sys.argv[1]))
for i in range(150):
    store.save(f"k{i}", {name: np.full(20_000, i, dtype=np.float32) for name in "abc"} | {"few": np.arange(i)})
resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
parts = [store.load(f"k{i}", mmap=True) for i in range(150)]
for i, part in enumerate(parts):
    assert all((part.arrays[name] == i).all() for name in "abc")
    assert len(part.arrays["few"]) == i
others = [open(store.path("k0")) for _ in range(40)]
"""


@pytest.mark.skipif(os.name != "posix", reason="file descriptors are limited otherwise")
def test_more_parts_than_file_descriptors_are_mapped_or_read_and_some_are_left_for_others(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="this system knows no such request")
def test_what_was_read_of_a_mapped_array_leaves_memory_and_is_read_again(tmp_path: Path) -> None:
    values = np.arange(2**22, dtype=np.float32)
    Store(tmp_path).save("x", {"values": values})
    mapped = Store(tmp_path).load("x", mmap=True).arrays["values"]
    resident = []
    for act in (lambda: mapped.sum(), lambda: let_go(mapped)):
        act()
        resident.append(psutil.Process().memory_info().rss)
    assert resident[0] - resident[1] > values.nbytes / 2
    np.testing.assert_array_equal(mapped, values)
    let_go(values)
    assert values[-1] == 2**22 - 1
