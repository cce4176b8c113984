from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentcortex import _files
from latentcortex.errors import InputError


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
