from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcortex._files import read_log
from latentcortex.datasets import make
from latentcortex.datasets.folder import Folder
from latentcortex.errors import AlignmentError, InputError
from latentcortex.study import Study

IDS = ("001", "002", "010")


def write(root: Path, name: str, *rows: str) -> None:
    (root / name).write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a folder in which everything is right."""
    (tmp_path / "stimuli").mkdir()
    rng = np.random.default_rng(0)
    for name in IDS:
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "stimuli" / f"{name}.png")
    captions = ["a cat\tn/a", "a dog\ta hound", "\t"]
    rows = [f"{name}\t{name}.png\t{text}" for name, text in zip(IDS, captions, strict=True)]
    write(tmp_path, "stimuli.tsv", "stimulus_id\tstim_file\tcaption\tcaption_2", *rows)
    shown = [("001", "train"), ("002", "train"), ("010", "test"), ("001", "train")]
    trials = [f"{name}\t01\t{i // 2}\t{split}" for i, (name, split) in enumerate(shown)]
    write(tmp_path, "trials.tsv", "stimulus_id\tsession\trun\tsplit", *trials)
    np.save(tmp_path / "responses.npy", rng.standard_normal((4, 5)).astype(np.float32))
    return tmp_path


def use(root: Path) -> None:
    folder = Folder(str(root))
    stimuli = folder.stimuli()
    folder.responses("01")
    stimuli.images(stimuli.ids)


def test_a_folder_gives_stimuli_and_responses_by_id(root: Path) -> None:
    folder = make("folder", root=str(root))
    stimuli, responses = folder.stimuli(), folder.responses("01")
    assert stimuli.ids == IDS  # 001 stays 001
    assert stimuli.captions(IDS) == [("a cat",), ("a dog", "a hound"), ()]
    assert list(folder.rows("01")["split"]) == ["train", "train", "test", "train"]
    assert responses.ids == IDS
    np.testing.assert_array_equal(responses.data, np.load(root / "responses.npy"))
    expected = np.asarray(Image.open(root / "stimuli" / "002.png"))
    np.testing.assert_array_equal(stimuli.images(["002"])[0], expected)


def test_files_that_are_no_stimuli_are_named(root: Path, caplog) -> None:
    (root / "stimuli" / "image.png").write_bytes(b"stray")
    with caplog.at_level("INFO"):
        make("folder", root=root).stimuli()
    assert "1 files in stimuli/ belong to no stimulus and are ignored: image.png" in caplog.text


def test_the_fingerprint_changes_with_the_data_and_only_then(root: Path) -> None:
    before = Folder(str(root)).fingerprint("01")
    assert Folder(str(root)).fingerprint("01") == before
    np.save(root / "responses.npy", np.ones((4, 5)))
    assert Folder(str(root)).fingerprint("01") != before


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return change


def put(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content)


def picture(mode: str, **arguments) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        Image.new(mode, (8, 8), **arguments).save(root / "stimuli" / "002.png")

    return change


def truncate(name: str, fraction: float) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * fraction)])

    return change


def link_out(root: Path) -> None:
    (root / "secret.png").write_bytes((root / "stimuli" / "001.png").read_bytes())
    (root / "stimuli" / "001.png").unlink()
    (root / "stimuli" / "001.png").symlink_to(root / "secret.png")


def pickled(root: Path) -> None:
    np.save(root / "responses.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def commas(root: Path) -> None:
    text = (root / "stimuli.tsv").read_text()
    (root / "stimuli.tsv").write_text(text.replace("\t", ","))


FAULTS: dict[str, tuple[Callable[[Path], object], type, list[str]]] = {
    "missing table": (
        lambda r: (r / "trials.tsv").unlink(),
        InputError,
        ["trials.tsv is missing", "session"],
    ),
    "missing responses": (lambda r: (r / "responses.npy").unlink(), InputError, ["responses.npy is missing"]),
    "missing column": (
        replace("trials.tsv", "session", "sesion"),
        InputError,
        ["trials.tsv has no column session", "sesion"],
    ),
    "comma-separated": (commas, InputError, ["stimuli.tsv has no column", "use tabs"]),
    "ids 001 vs 1": (
        replace("trials.tsv", "001", "1"),
        AlignmentError,
        ["names 1 stimuli", ": 1, the first in row 2, column stimulus_id (it has 001", "compared as text"],
    ),
    "wrong row count": (
        lambda r: np.save(r / "responses.npy", np.ones((3, 5))),
        AlignmentError,
        ["responses.npy is (3, 5)", "trials.tsv has 4 rows", "one row per trial"],
    ),
    "one dimension": (
        lambda r: np.save(r / "responses.npy", np.ones(4)),
        AlignmentError,
        ["is (4,)", "one column per voxel"],
    ),
    "duplicated id": (
        replace("stimuli.tsv", "002\t", "001\t"),
        InputError,
        ["stimuli.tsv must be unique", "001"],
    ),
    "missing image": (lambda r: (r / "stimuli/002.png").unlink(), InputError, ["names images", "002.png"]),
    "text named .png": (
        put("stimuli/002.png", b"hello world"),
        InputError,
        ["002.png is not an image", "hello"],
    ),
    "empty png": (put("stimuli/002.png", b""), InputError, ["002.png is not an image"]),
    "truncated png": (truncate("stimuli/002.png", 0.6), InputError, ["002.png cannot be read", "truncated"]),
    "16-bit grey": (picture("I;16", color=40000), InputError, ["002.png has", "8 bits"]),
    "transparent RGBA": (
        picture("RGBA", color=(255, 0, 0, 0)),
        InputError,
        ["002.png is partly transparent"],
    ),
    "transparent palette": (
        lambda r: Image.new("P", (8, 8)).save(r / "stimuli/002.png", transparency=0),
        InputError,
        ["transparent"],
    ),
    "other size": (
        lambda r: Image.new("RGB", (9, 8)).save(r / "stimuli/002.png"),
        InputError,
        ["8 x 9 pixels as 002, 1 in all", "8 x 8 pixels as"],
    ),
    "escape": (
        replace("stimuli.tsv", "002.png", "../x.png"),
        InputError,
        ["'../x.png' escapes", "inside it"],
    ),
    "absolute": (replace("stimuli.tsv", "002.png", "/etc/passwd"), InputError, ["'/etc/passwd' escapes"]),
    "link out": (link_out, InputError, ["'001.png' escapes"]),
    "pickled npy": (pickled, InputError, ["responses.npy is not a plain .npy", "|O"]),
    "text as npy": (put("responses.npy", b"1 2 3"), InputError, ["responses.npy is not a plain .npy"]),
    "truncated npy": (
        truncate("responses.npy", 0.9),
        InputError,
        ["responses.npy says that it is float32 of shape (4, 5), 80 bytes, and 59 follow"],
    ),
    "text array": (
        lambda r: np.save(r / "responses.npy", np.array([["a"]])),
        InputError,
        ["responses.npy is not a plain .npy", "<U1"],
    ),
    "Latin-1": (
        lambda r: (r / "stimuli.tsv").write_bytes((r / "stimuli.tsv").read_bytes().replace(b"cat", b"c\xe4t")),
        InputError,
        ["stimuli.tsv is not UTF-8 (byte", "save it as UTF-8"],
    ),
    "short row": (
        replace("trials.tsv", "002\t01\t0\ttrain", "002\t01"),
        InputError,
        ["trials.tsv row 3 has 2 cells; its header has 4"],
    ),
    "long row": (
        replace("trials.tsv", "002\t01", "002\t01\t01"),
        InputError,
        ["trials.tsv row 3 has 5 cells"],
    ),
    "all rows long": (
        lambda r: write(r, "trials.tsv", "stimulus_id\tsession\trun", *["x\t001\t1\t1"] * 4),
        InputError,
        ["trials.tsv row 2 has 4 cells; its header has 3"],
    ),
    "empty table": (put("trials.tsv", b""), InputError, ["trials.tsv is empty"]),
    "column twice": (
        replace("stimuli.tsv", "caption_2", "caption"),
        InputError,
        ["must be unique", "caption"],
    ),
    "two splits": (
        replace("trials.tsv", "001\t01\t0\ttrain", "001\t01\t0\ttest"),
        InputError,
        ["in two splits: 001 (test, train)"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_input_is_one_error_that_says_what_and_where(fault: str, root: Path) -> None:
    spoil, kind, says = FAULTS[fault]
    spoil(root)
    with pytest.raises(kind) as caught:
        use(root)
    message = str(caught.value)
    assert [part for part in says if part not in message] == [], message
    assert "\n" not in message


def test_a_missing_folder_or_a_wrong_label_is_an_input_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there; check `root`"):
        Folder(str(tmp_path / "none"))
    for label in ("../x", "a_b", "a b", "<script>", "", 1):
        with pytest.raises(InputError, match="letters and digits"):
            Folder(str(root), participants=[label])  # type: ignore[list-item]
    with pytest.raises(InputError, match="one participant; got 2"):
        Folder(str(root), participants=["01", "02"])
    with pytest.raises(InputError, match="No participant '02'"):
        Folder(str(root)).responses("02")
    with pytest.raises(AlignmentError, match="has 5 columns, fsaverage5 has 20484"):
        Folder(str(root), template="fsaverage5").responses("01")


CAPTIONS = ('"Stop" on a sign', '"', '""', 'a cat, said "no"', '"a dog', "'single'")


@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_with_quotation_marks_comes_back_as_it_is(caption: str, root: Path) -> None:
    replace("stimuli.tsv", "a cat", caption)(root)
    stimuli = Folder(str(root)).stimuli()
    assert stimuli.ids == IDS
    assert stimuli.captions(IDS) == [(caption,), ("a dog", "a hound"), ()]


def test_a_byte_order_mark_and_windows_line_ends_are_read(root: Path) -> None:
    text = (root / "stimuli.tsv").read_bytes()
    (root / "stimuli.tsv").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert Folder(str(root)).stimuli().ids == IDS


def test_what_is_noticed_in_the_tables_stands_in_the_log_of_a_run(folder_study: Path, tmp_path: Path) -> None:
    """They are read before it is known whether there is anything to do, and so before there is a log."""
    table = folder_study.parent / "data" / "stimuli.tsv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header}\tcaption", *(f'{row}\t"a cat"' for row in rows)]))
    (table.parent / "stimuli" / "notes.txt").write_text("mine")
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    entries, _ = read_log(tmp_path / "out" / "logs" / "latentcortex.jsonl")
    told = [entry["what"] for entry in entries]
    assert sum("60 cells of" in one and "quotation mark" in one for one in told) == 1
    assert sum("1 files in stimuli/ belong to no stimulus" in one for one in told) == 1
