from __future__ import annotations

import errno
import json
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentcortex import _files
from latentcortex.errors import InputError
from latentcortex.reporting.tables import alterations


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.txt"
    with pytest.raises(KeyError), _files.writing(path) as part:  # noqa: PT012
        part.write_text("half")
        raise KeyError
    assert list(path.parent.iterdir()) == []
    _files.write_text(path, "whole")
    with pytest.raises(KeyError), _files.writing(path) as part:  # noqa: PT012
        part.write_text("half")
        raise KeyError
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_never_share_a_temporary_name(tmp_path: Path) -> None:
    with _files.writing(tmp_path / "x") as one, _files.writing(tmp_path / "x") as other:
        assert one != other
        assert one.name.startswith(".")
        one.write_text("1")
        other.write_text("2")


def test_json_is_plain_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    value = {
        "a": np.float32(0.5),
        "b": [np.nan, np.inf],
        "c": np.arange(2),
        3: Path("x"),
        "d": (np.int64(7), True),
    }
    _files.write_json(tmp_path / "x.json", value)
    expected = {"a": 0.5, "b": [None, None], "c": [0, 1], "3": "x", "d": [7, True]}
    assert _files.read_json(tmp_path / "x.json") == expected


def test_broken_or_missing_json_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        _files.read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"a": 1\n "b"}')
    with pytest.raises(InputError, match=r"x.json is not JSON: .*line 2"):
        _files.read_json(tmp_path / "x.json")


def test_a_table_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text('id\tn\n001\tn/a\nNA\t"two\ttabs"\n\n')
    table = _files.read_tsv(tmp_path / "x.tsv", needs=("id",))
    expected = pd.DataFrame({"id": ["001", "NA"], "n": ["n/a", "two\ttabs"]}, dtype=str)
    pd.testing.assert_frame_equal(table, expected)


def test_a_file_s_hash_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert re.match("ba7816bf.*15ad$", _files.sha256(tmp_path / "x"))


def test_the_log_is_json_lines_with_facts(tmp_path: Path) -> None:
    logger = logging.getLogger("latentcortex.test")
    with _files.logging_to(tmp_path / "log.jsonl"):
        logger.info("%d voxels left out", 3, extra={"facts": {"reason": "nan"}})
    logger.info("not heard")
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line) == {"level": "info", "what": "3 voxels left out", "reason": "nan"}


def test_a_log_that_was_cut_off_goes_on_and_its_findings_count_once(tmp_path: Path) -> None:
    logger, path = logging.getLogger("latentcortex.test"), tmp_path / "log.jsonl"

    def one_run(*names: str) -> None:
        with _files.logging_to(path):
            for name in names:
                logger.info("An image was turned upright.", extra={"facts": {"file": name}})

    one_run("a.png", "b.png")
    path.write_bytes(path.read_bytes()[:-20])  # killed while it wrote the second
    one_run("a.png", "b.png")
    path.write_bytes(path.read_bytes() + b'\xff\n[]\n{"level": 1, "what": "x"}\n' + b"[" * 100_000)
    one_run("a.png", "\u2028.png", "\udcff.png")
    entries, n_damaged = _files.read_log(path)
    assert [entry["file"] for entry in entries] == ["a.png", "b.png", "\u2028.png", "\udcff.png"]
    assert n_damaged == 5


def test_a_report_lists_what_can_be_read_of_a_damaged_log_and_counts_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    entries = [{"file": "a"}, {"file": "b"}, {"file": "b"}, {"participant": "02"}]
    lines = [json.dumps({"level": "info", "what": "cast", **facts}) for facts in entries]
    path.write_text("\n".join([*lines, '{"level": "in']))
    told = "1 line of log.jsonl cannot be read (a run was killed, or the file is damaged) and cannot be listed."
    assert alterations(path, "01") == [
        {"level": "info", "what": "cast", "times": 2},
        {"level": "warning", "what": told, "times": 1},
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_an_error_of_writing_names_the_file_and_not_its_temporary_name(tmp_path: Path, number: int) -> None:
    path = tmp_path / "x.npz"
    for told in (OSError(number, "no"), None):
        with pytest.raises(OSError, match=r"'.*/x\.npz'") as caught, _files.writing(path) as part:
            raise told or OSError(number, "no", str(part))
        assert (caught.value.errno, caught.value.filename) == (number, str(path))
    with pytest.raises(OSError, match="other") as caught, _files.writing(path):
        raise OSError(number, "no", "other")


def test_an_error_of_writing_keeps_a_library_s_own_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"/x: 12 requested and 3 written$"), _files.writing(tmp_path / "x"):
        raise OSError("12 requested and 3 written")
