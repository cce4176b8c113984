from __future__ import annotations

import errno
import json
import logging
import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _flips import flipped, read_or_one_line, some_bits

from latentcortex import _files
from latentcortex.errors import InputError, first_line
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
    (tmp_path / "x.tsv").write_text("\nid\tn\n001\tn/a\n\nNA\t'\n\n")
    table = _files.read_tsv(tmp_path / "x.tsv", needs=("id",))
    expected = pd.DataFrame({"id": ["001", "NA"], "n": ["n/a", "'"]}, index=[3, 5], dtype=str)  # rows of the file
    pd.testing.assert_frame_equal(table, expected)


CELLS = ['"quoted" text', '"open', 'shut"', '"', '""', '"whole"', 'a "b" c', "'", "#", "\\n", "1.0", "nan", " blank "]


def test_a_quotation_mark_in_a_table_is_a_letter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, rows = tmp_path / "x.tsv", [(f"{i:03d}", cell) for i, cell in enumerate(CELLS)]
    path.write_text("\n".join("\t".join(row) for row in [("id", "caption"), *rows]) + "\n")
    with caplog.at_level("INFO", logger="latentcortex"):
        table = _files.read_tsv(path, needs=("id",))
    assert list(table.itertuples(index=False, name=None)) == rows
    assert "2 cells of" in caplog.text  # a spreadsheet may have put these: "" and "whole"
    assert _files.as_tsv(table) == path.read_text()
    (tmp_path / "x.tsv").write_text('id\tcaption\n1\t"two\ttabs"\n')
    with pytest.raises(InputError, match=r"x\.tsv row 2 has 3 cells; its header has 2. A quotation mark does not hold"):
        _files.read_tsv(path, needs=("id",))


@pytest.mark.parametrize("cell", ["a\tb", "a\nb", "a\r\nb"])
def test_a_table_is_not_written_with_a_cell_that_it_cannot_hold(cell: str) -> None:
    with pytest.raises(InputError, match="has a tab or the end of a line in it"):
        _files.as_tsv(pd.DataFrame({"a": [cell]}))


TEXTS: dict[str, tuple[bytes, str]] = {
    "nested": (b"[" * 200_000, "nested too deeply"),
    "nested objects": (b'{"a":' * 200_000, "nested too deeply"),
    "a number of a million digits": (b"1" * 1_000_000, "is not JSON"),
    "binary": (b"\x93NUMPY\x01\x00", "is not UTF-8"),
    "zeros": (bytes(1000), "character 0 is 0"),
    "empty": (b"", "is not JSON"),
}


@pytest.mark.parametrize("fault", TEXTS)
def test_json_that_is_none_is_one_line(fault: str, tmp_path: Path) -> None:
    content, says = TEXTS[fault]
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        _files.read_json(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_of_more_than_its_bound_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as handle:
        handle.truncate(10**12)  # a sparse file
    with pytest.raises(InputError, match="has 1,000,000,000,000 bytes; expected a JSON file of at most 67,108,864"):
        _files.read_json(tmp_path / "x.json")


def test_a_flipped_bit_of_text_is_read_or_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x"
    readers = [_files.read_json, lambda path: _files.read_tsv(path, needs=("id",))]
    contents = [b'{"name": "mine", "space": ["a", 1e5, null]}', b'id\tcaption\n001\t"a" b\n002\tn/a\n']
    for read, content in zip(readers, contents, strict=True):
        for damaged in flipped(content, some_bits(content, 120)):
            path.write_bytes(damaged)
            read_or_one_line(lambda read=read: read(path))


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
        {"level": "info", "what": "cast", "models": [], "times": 2},
        {"level": "warning", "what": told, "models": [], "times": 1},
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


def test_a_listener_that_ends_while_a_file_is_announced_hides_it_from_no_other(tmp_path: Path) -> None:
    told: list[str] = []
    ending = ExitStack()
    ending.enter_context(_files.announcing(lambda *_: ending.close()))
    with _files.announcing(lambda _, path: told.append(path.name)):
        _files.write_text(tmp_path / "x.txt", "x")
    assert told == ["x.txt"]


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError(), "ValueError"), (ValueError("\n\none.\ntwo"), "one"), (OSError("x" * 300), "x" * 200)],
)
def test_somebody_else_s_error_is_told_in_one_line(error: Exception, said: str) -> None:
    assert first_line(error) == said
