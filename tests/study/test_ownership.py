"""A run deletes and replaces files that a run wrote, as it wrote them, and nothing else, inside its folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from _studies import write_folder_study

from latentcortex import cli, reporting
from latentcortex._results import JOURNAL, LOG, NAME, ResultsFolder, read_journal, read_record
from latentcortex.errors import InputError
from latentcortex.study import Study

PLANTED = (
    "notes.txt",
    "sub-01/notes.txt",
    "sub-01/sub-01_thesis.tex",
    "sub-01/func/analysis.py",
    "sub-01/figures/favourite.png",
    "sub-02/sub-02_report.txt",
    "work/script.py",
    "work/sub-01_mine.npz",
    "logs/notes.txt",
    "logs/mine.jsonl",
    "group_notes.txt",
    "group.html",
    "features/README.txt",
)
"""What a user may put beside results, much of it called as results are."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    study = write_folder_study(folder)
    Study.read(study).run(folder / "out", progress=False)
    changed = study.with_name("changed.toml")
    changed.write_text(study.read_text().replace("q = 0.05", "q = 0.01"))
    return folder


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "out", tmp_path / "out")
    return tmp_path / "out"


def run(finished: Path, out: Path, name: str = "changed.toml", *options: str) -> int:
    return cli.main(["run", str(finished / "study" / name), "--out", str(out), "--quiet", *options])


def plant(out: Path) -> dict[Path, bytes]:
    """Put a user's files beside the results, and links to files elsewhere."""
    for name in PLANTED:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(f"mine: {name}")
    elsewhere = out.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("years of work")
    (elsewhere / "sub-03_rois.tsv").write_text("years of work")
    (out / "sub-01" / "thesis").symlink_to(elsewhere)
    (out / "sub-03").symlink_to(elsewhere)
    (out / "work" / "thesis.txt").symlink_to(elsewhere / "thesis.txt")
    return content([*(out / name for name in PLANTED), *elsewhere.iterdir()])


def content(paths: list[Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in paths}


def test_overwriting_keeps_every_file_that_no_run_wrote(finished, out):
    mine = plant(out)
    assert run(finished, out, "changed.toml", "--overwrite") == 0
    assert content(list(mine)) == mine
    assert (out / "sub-01" / "thesis").is_symlink()
    assert (out / "sub-03").is_symlink()
    assert (out / "work" / "thesis.txt").is_symlink()


def test_files_that_lay_there_when_a_run_finished_are_not_taken_for_results(finished, out):
    """The study is run once more, and only then overwritten: its record must not have taken the user's files in."""
    mine = plant(out)
    (out / "sub-01.html").unlink()
    assert run(finished, out, "study.toml") == 0
    record = read_record(out)
    assert not {path.relative_to(out).as_posix() for path in mine if path.is_relative_to(out)} & set(record["files"])
    assert run(finished, out, "changed.toml", "--overwrite") == 0
    assert content(list(mine)) == mine


def test_a_result_that_was_changed_is_kept_and_named(finished, out, capsys):
    page = out / "sub-01.html"
    page.write_text(page.read_text() + "<!-- my remarks -->")
    table = out / "sub-01" / "func" / "sub-01_task-images_desc-ceiling_statmap.tsv"
    table.write_text("mine")
    assert run(finished, out, "changed.toml", "--overwrite") == 0
    printed = capsys.readouterr().out
    told = (out / "logs" / "latentcortex.jsonl").read_text()
    for path, end in ((page, "<!-- my remarks -->"), (table, "mine")):
        assert path.with_name(f"{path.name}.kept").read_text().endswith(end)
        assert not path.read_text().endswith(end)
        assert f"{path.name}.kept" in printed
        assert f"{path.name}.kept" in told


def test_a_users_file_in_the_way_of_a_result_is_kept_under_another_name(finished, out):
    (out / "group.html").write_text("mine")
    record = ResultsFolder(out, "k", {}, ("group.html",))
    record.begin()
    with record.claiming():
        from latentcortex import _files

        _files.write_text(out / "group.html", "a result")
        _files.write_text(out / "group.html", "a later result")
    record.finish(("report",))
    assert (out / "group.html").read_text() == "a later result"
    assert (out / "group.html.kept").read_text() == "mine"
    assert not (out / "group.html.kept2").exists()


def test_pages_that_are_made_again_replace_no_file_that_no_run_wrote(finished, out, caplog):
    record = json.loads((out / NAME).read_text())
    mine = out / "references.bib"
    del record["files"][mine.name]
    (out / NAME).write_text(json.dumps(record))
    mine.write_text("mine")
    assert cli.main(["report", str(out)]) == 0
    assert mine.with_name("references.bib.kept").read_text() == "mine"
    assert "@" in mine.read_text()
    assert "references.bib was in the way of a result and is none; it is kept as references.bib.kept." in caplog.text


def test_an_option_that_deletes_is_not_guessed_from_its_beginning(finished, out):
    before = content(sorted(path for path in out.rglob("*") if path.is_file()))
    with pytest.raises(SystemExit, match="2"):
        run(finished, out, "changed.toml", "--overwrit")
    assert content(list(before)) == before


def test_a_result_that_a_link_replaced_is_not_followed(finished, out, tmp_path):
    """The link has the content of the result, and the file that it leads to must stay."""
    page, victim = out / "sub-01.html", tmp_path / "victim.html"
    shutil.move(page, victim)
    page.symlink_to(victim)
    func, elsewhere = out / "sub-01" / "figures", tmp_path / "figures"
    shutil.move(func, elsewhere)
    func.symlink_to(elsewhere)
    before = content([victim, *elsewhere.iterdir()])
    record = ResultsFolder(out, "another", {}, ("sub-*.html", "sub-*/figures/*"))
    record.begin()
    assert content([victim, *elsewhere.iterdir()]) == before
    assert page.is_symlink()
    assert len(record.kept) == 1 + len(before) - 1


def test_results_are_not_written_through_a_link(finished, out, tmp_path, capsys):
    shutil.move(out / "sub-01" / "func", tmp_path / "func")
    (out / "sub-01" / "func").symlink_to(tmp_path / "func")
    before = content(list((tmp_path / "func").iterdir()))
    assert run(finished, out, "changed.toml", "--overwrite") == 2
    assert "func is, or lies in, a link" in capsys.readouterr().err
    assert content(list((tmp_path / "func").iterdir())) == before


@pytest.mark.parametrize(
    "name", ["../victim", "sub-01/../../victim", "/victim", "..", "work/..\\victim", "a//b", "", "."]
)
@pytest.mark.parametrize("command", ["changed.toml", "study.toml"])
def test_a_record_that_names_a_file_elsewhere_is_refused_and_nothing_is_deleted(
    finished, out, tmp_path, capsys, name, command
):
    victim = tmp_path / "victim"
    victim.write_text("years of work")
    if name.startswith("/"):
        name = str(victim)
    known = json.loads((out / NAME).read_text())
    known["files"][name] = hashlib.sha256(victim.read_bytes()).hexdigest()
    (out / NAME).write_text(json.dumps(known))
    before = content([path for path in tmp_path.rglob("*") if path.is_file()])
    assert run(finished, out, command, "--overwrite") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a study names files in its own folder" in error
    assert content([path for path in tmp_path.rglob("*") if path.is_file()]) == before


def test_a_record_deletes_no_file_that_is_not_called_as_results_are(finished, out):
    """Somebody else may know the hash of a file that everybody has."""
    mine = plant(out)
    (out / "study.toml").write_text("mine")
    names = ["study.toml", *(name for name in PLANTED if name not in ("work/sub-01_mine.npz", "group.html"))]
    names = [name for name in names if not name.startswith(("sub-01/sub-01_", "sub-01/figures/"))]
    known = json.loads((out / NAME).read_text())
    known["files"] |= {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}
    (out / NAME).write_text(json.dumps(known))
    assert run(finished, out, "changed.toml", "--overwrite") == 0
    assert content(list(mine)) == mine
    assert (out / "study.toml").read_text() == "mine"


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"key": 1}', '{"key": "", "settings": {}, "done": [], "files": [1]}', "{", "null"]
)
def test_what_is_not_a_record_is_refused(finished, out, capsys, content):
    (out / NAME).write_text(content)
    assert run(finished, out, "changed.toml", "--overwrite") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interrupted_study_is_removed_when_it_is_overwritten(finished, tmp_path, monkeypatch):
    """What it had written stands in no finished record; maps of two studies must not lie side by side."""
    other = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(reporting, "write_summary", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Study.read(finished / "study" / "study.toml").run(other, progress=False)
    written = set(read_journal(other))
    assert "sub-01/sub-01_report.json" in written
    (other / JOURNAL).write_text((other / JOURNAL).read_text() + '\n{"name": "sub-01/')  # as a kill leaves it
    record = ResultsFolder(
        other, "another", {}, ("sub-*.html", "sub-*/sub-*", "sub-*/func/*", "sub-*/figures/*", "work/*")
    )
    record.begin()
    left = {path.relative_to(other).as_posix() for path in other.rglob("*") if path.is_file()}
    assert not {name for name in left & written if name.startswith(("sub-", "work"))}
    assert record.kept == []


def test_the_log_of_a_run_that_was_killed_is_not_continued_by_another_study(tmp_path):
    """A killed run takes its log down in no record and no journal."""
    ResultsFolder(tmp_path, "one", {}, (LOG,)).begin()
    (tmp_path / LOG).parent.mkdir()
    (tmp_path / LOG).write_text('{"level": "info", "what": "of the first study"}\n')
    same = ResultsFolder(tmp_path, "one", {}, (LOG,))
    same.begin()
    assert (tmp_path / LOG).is_file()
    assert same.kept == []
    other = ResultsFolder(tmp_path, "another", {}, (LOG,))
    other.begin()
    assert not (tmp_path / LOG).exists()
    assert "of the first study" in (tmp_path / f"{LOG}.kept").read_text()
    assert other.kept == [f"{LOG} is not as a run left it, and is kept as latentcortex.jsonl.kept."]


def test_a_full_disk_under_the_journal_is_told_by_the_journal_s_name(tmp_path):
    record = ResultsFolder(tmp_path, "one", {}, (LOG,))
    record.begin()
    (tmp_path / LOG).parent.mkdir()
    (tmp_path / LOG).write_text("")
    (tmp_path / JOURNAL).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as told, record.claiming():
        pass
    assert told.value.filename == str(tmp_path / JOURNAL)


def test_a_folder_of_another_study_is_refused_without_being_touched(finished, out):
    before = content([path for path in out.rglob("*") if path.is_file()])
    with pytest.raises(InputError, match=r"another study \(inference.q\)"):
        Study.read(finished / "study" / "changed.toml").run(out, progress=False)
    assert content([path for path in out.rglob("*") if path.is_file()]) == before


def test_a_record_of_another_format_is_refused_and_overwritten_when_that_is_asked(finished, out, capsys):
    record = json.loads((out / NAME).read_text())
    (out / NAME).write_text(json.dumps({**record, "format": "latentcortex-study 1"}))
    assert run(finished, out, "study.toml") == 2
    assert "another study (the format of its record); use another folder or --overwrite" in capsys.readouterr().err
    assert run(finished, out, "study.toml", "--overwrite") == 0
    assert json.loads((out / NAME).read_text())["format"] == record["format"]


def test_what_another_process_of_the_same_study_wrote_is_not_in_the_way(tmp_path):
    """Each of two writes every result; neither takes the other's for a user's file."""
    from latentcortex import _files

    one, two = (ResultsFolder(tmp_path, "k", {}, ("sub-*.html", "group.html")) for _ in range(2))
    with one.owning(overwrite=False), two.owning(overwrite=False):
        one.begin()
        two.begin()
        for record, name in ((one, "sub-01.html"), (two, "sub-01.html"), (two, "group.html"), (one, "group.html")):
            with record.claiming():
                _files.write_text(tmp_path / name, "a result")
        one.finish(("extract", "encode", "report"))
        two.finish(("extract",))
    assert one.kept == two.kept == []
    assert read_record(tmp_path)["done"] == ["extract", "encode", "report"]
    assert sorted(read_record(tmp_path)["files"]) == ["group.html", "sub-01.html"]
    assert not (tmp_path / JOURNAL).exists()


def test_a_process_that_is_killed_after_another_finished_leaves_no_file_that_nobody_knows(tmp_path):
    from latentcortex import _files

    one, two = (ResultsFolder(tmp_path, "k", {}, ("sub-*.html", "group.html")) for _ in range(2))
    with one.owning(overwrite=False), two.owning(overwrite=False):
        one.begin()
        two.begin()
        with two.claiming():
            _files.write_text(tmp_path / "group.html", "a result")
        one.finish(("report",))  # and `two` never does
    third = ResultsFolder(tmp_path, "another", {}, ("sub-*.html", "group.html"))
    with third.owning(overwrite=True):
        third.begin()
    assert not (tmp_path / "group.html").exists()
    assert third.kept == []
