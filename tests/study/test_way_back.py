"""The way back in a study: decode, reconstruct and evaluate, resumable, apart from the maps, and honest in its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentcortex import cli, evaluation, reporting
from latentcortex._files import read_log
from latentcortex.decoding import Decoder
from latentcortex.errors import IncompleteError, InputError
from latentcortex.features import Features
from latentcortex.study import Study

SECTIONS = """
[decoding]
bands = ["pixels"]

[evaluation]
n_images = 12
n_bootstrap = 50
"""


@pytest.fixture
def study(folder_study: Path) -> Path:
    """Let the study of pictures also decode their pixels and look up the nearest training image."""
    folder_study.write_text(folder_study.read_text() + SECTIONS)
    return folder_study


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def edit(study: Path, old: str, new: str) -> Study:
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new))
    return Study.read(study)


def content(folder: Path) -> dict[str, bytes]:
    """Every file that holds results, without times."""
    skipped = ("study.json", "summary.json", "latentcortex.jsonl", ".html", "_reconstructions.json")
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith(skipped)}


def scores(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "decoding" / "sub-01" / "sub-01_scores.tsv", sep="\t", na_values="n/a")


def test_a_run_of_all_stages_decodes_only_where_the_study_asks_for_it(folder_study, tmp_path):
    Study.read(folder_study).run(tmp_path / "maps", progress=False)
    assert not (tmp_path / "maps" / "decoding").exists()
    folder_study.write_text(folder_study.read_text() + SECTIONS)
    outcome = Study.read(folder_study).run(tmp_path / "both", progress=False)
    assert [page.parent.name for page in outcome.pages["01"]] == ["both", "decoding"]
    assert all(page.is_file() for page in outcome.pages["01"])


def test_after_evaluating_alone_no_page_links_to_a_report_that_is_not_there(study, out):
    outcome = Study.read(study).run(out, until="evaluate", progress=False)
    (page,) = outcome.pages["01"]
    assert "Report of the maps" not in page.read_text()


def test_the_planted_pictures_are_identified_and_a_shuffled_brain_is_not(study, out):
    Study.read(study).run(out, until="evaluate", progress=False)
    table = scores(out).set_index(["route", "measure"])
    decoded = table.loc[("decoded", "identification_space-pixels_fixed-original_pool-20")]
    assert decoded["score"] > 0.9
    assert decoded["shuffled_low"] < 0.5 < decoded["shuffled_high"]
    retrieved = table.loc[("retrieval", "identification_space-pixels_fixed-original_pool-12")]
    assert retrieved["n_images"] == 12
    assert (table["score_low"] <= table["score"]).all()


def test_decoding_needs_no_map(study, out):
    Study.read(study).run(out, until="decode", progress=False)
    assert not (out / "work").exists()
    decoded = Features.open(next((out / "decoding" / "sub-01" / "decoded").glob("decoded-*")))
    assert decoded.ids == tuple(f"s{i:03d}" for i in range(40, 60))
    assert not list(out.rglob("*.png"))


def test_the_stages_can_be_run_one_by_one_from_the_command_line(study, tmp_path, capsys):
    for stage in ("decode", "reconstruct", "evaluate"):
        assert cli.main([stage, str(study), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert str(tmp_path / "out" / "decoding" / "sub-01.html") in capsys.readouterr().out
    assert cli.main(["evaluate", str(study), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_another_way_back_computes_no_map_again_and_is_refused_unless_asked(study, out):
    Study.read(study).run(out, progress=False)
    maps = {path: path.stat().st_mtime_ns for path in (out / "work").iterdir()}
    changed = edit(study, "n_images = 12", "n_images = 15")
    with pytest.raises(InputError, match=r"another study \(evaluation.n_images\)"):
        changed.run(out, progress=False)
    assert changed.run(out, overwrite=True, progress=False).computed
    assert {path: path.stat().st_mtime_ns for path in (out / "work").iterdir()} == maps
    assert scores(out).query("route == 'retrieval'")["n_images"].eq(15).all()


@pytest.mark.parametrize(("module", "name"), [(evaluation, "score_table"), (reporting, "write_reconstructions")])
def test_a_run_killed_in_the_middle_goes_on_to_the_same_files(study, tmp_path, monkeypatch, module, name):
    Study.read(study).run(tmp_path / "whole", until="evaluate", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Study.read(study).run(tmp_path / "out", until="evaluate", progress=False)
    (decoded,) = (tmp_path / "out" / "decoding" / "sub-01" / "decoded").glob("decoded-*/manifest.json")
    before = decoded.stat().st_mtime_ns
    assert Study.read(study).run(tmp_path / "out", until="evaluate", progress=False).computed
    assert content(tmp_path / "out" / "decoding") == content(tmp_path / "whole" / "decoding")
    assert decoded.stat().st_mtime_ns == before


def flipped(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


def reordered(path: Path) -> None:
    text = path.read_text()
    assert '"s040"' in text
    path.write_text(text.replace('"s040"', '"x"').replace('"s041"', '"s040"').replace('"x"', '"s041"'))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("block-0000.arrays", flipped),
        ("block-0000.arrays", Path.unlink),
        ("manifest.json", lambda path: path.write_text(path.read_text()[:-30])),
        ("manifest.json", lambda path: path.write_text("{}")),
        ("manifest.json", reordered),
    ],
)
def test_decoded_features_that_are_damaged_are_noticed_and_decoded_again(study, out, name, damage):
    Study.read(study).run(out, until="evaluate", progress=False)
    whole = content(out / "decoding")
    damage(next((out / "decoding" / "sub-01" / "decoded").glob(f"decoded-*/{name}")))
    assert Study.read(study).run(out, until="evaluate", progress=False).computed
    assert content(out / "decoding") == whole


def test_in_folds_every_stimulus_is_decoded_by_a_decoder_that_never_saw_it(study, out, monkeypatch):
    fitted: list[tuple[set[str], set[str]]] = []
    fit, decode = Decoder.fit, Decoder.decode

    def watched_fit(self, features, train, **options):
        self.seen = set(train.ids)
        return fit(self, features, train, **options)

    def watched_decode(self, responses):
        fitted.append((self.seen, set(responses.ids)))
        return decode(self, responses)

    monkeypatch.setattr(Decoder, "fit", watched_fit)
    monkeypatch.setattr(Decoder, "decode", watched_decode)
    text = study.read_text().replace("n_images = 12", "n_images = 0")
    study.write_text(text + "\n[splits]\ncross_validation = 5\n")
    Study.read(study).run(out, until="evaluate", progress=False)
    assert len(fitted) == 10  # five folds, and five of the shuffled control
    assert all(not train & test for train, test in fitted)
    table = scores(out).set_index(["route", "measure"])
    assert table.loc[("decoded", "identification_space-pixels_fixed-original_pool-12"), "n_images"] == 60


def test_the_page_has_no_network_no_script_and_says_what_its_numbers_are(study, out):
    Study.read(study).run(out, progress=False)
    page = (out / "decoding" / "sub-01.html").read_text()
    assert "Content-Security-Policy" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<img") == page.count('<img alt="')
    assert "nearest training image" in page
    assert "first 12 of them reconstructed" in page
    assert 'href="decoding/sub-01.html"' in (out / "sub-01.html").read_text()
    assert 'href="../sub-01.html"' in page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('bands = ["pixels"]', "bands = []", "neither z nor c"),
        ('bands = ["pixels"]', 'bands = ["z"]', "z is not among the bands"),
        ('bands = ["pixels"]', 'rois = "takagi2032"', "Did you mean 'takagi2023'"),
        ('bands = ["pixels"]', "rois = 3", "must be a preset or a table"),
        ('bands = ["pixels"]', 'rois = {pixels = "early"}', "needs a list of regions"),
        ('bands = ["pixels"]', 'rois = {pixels = ["early"]}', "needs `atlas` in [report]"),
        ("[decoding]", '[report]\natlas = "phantom"\n[decoding]\nrois = {pixels = ["early"]}', "give `template`"),
        ("n_images = 12", "n_images = 1", "must be 0 (all) or at least 2"),
        ("size = 8", 'size = "8"', "`size` of extractor 'pixels' must be a whole number"),
        ('name = "banded_ridge"', 'name = "banded_ridge"\ncv = "5"', "`cv` of estimator 'banded_ridge' must be"),
        ('name = "banded_ridge"', 'name = "banded_ridge"\nalphas = 1', "must be a list, each a number"),
        ('bands = ["pixels"]', "bands = [1]", "list of distinct names"),
        ('bands = ["pixels"]', 'bands = ["pixels", "pixels"]', "list of distinct names"),
        (
            "[evaluation]",
            '[reconstructor]\nbands = "pixels"\n[evaluation]',
            "must be a list of distinct names, at least one; got 'pixels'",
        ),
        ("[evaluation]", '[reconstructor]\nbands = ["z"]\n[evaluation]', "needs z; decoded are pixels"),
        ("n_images = 12", "n_images = -1", "must be 0 (all) or at least 2; got -1"),
        ("n_images = 12", 'category = "specie"', "Unknown column of the stimuli"),
        ("n_bootstrap = 50", "n_bootstrap = 0", "at least 1"),
        ("[evaluation]", '[reconstructor]\nname = "retreival"\n[evaluation]', "Did you mean 'retrieval'"),
        ("[evaluation]", '[reconstructor]\nband = ["z"]\n[evaluation]', "Did you mean 'bands'"),
        ("[evaluation]", "[evalution]", "Did you mean 'evaluation'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(study, tmp_path, capsys, old, new, message):
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new))
    assert cli.main(["run", str(study), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_images_too_small_for_ssim_are_refused_before_anything_is_written(study, out):
    from PIL import Image

    for path in (study.parent / "data" / "stimuli").iterdir():
        Image.open(path).resize((8, 8)).save(path)
    with pytest.raises(InputError, match="more than 10 pixels; got 8 x 8"):
        Study.read(study).run(out, progress=False)
    assert not out.exists()


def test_what_is_told_of_the_shuffled_control_is_in_the_log_and_on_no_page(study, out):
    Study.read(study).run(out, until="evaluate", progress=False)
    page = (out / "decoding" / "sub-01.html").read_text()
    said = "pixels is decoded from 28 of 30 voxels."
    assert page.count(said) == 1
    entries, _ = read_log(out / "decoding" / "logs" / "latentcortex.jsonl")
    told = [entry for entry in entries if entry["what"] == said]
    assert [entry.get("control", "") for entry in told] == ["", "shuffled responses"]
    assert {entry["participant"] for entry in told} == {"01"}


def test_the_page_of_reconstructions_is_made_again_from_the_folder_alone(study, tmp_path, out):
    own = Study.read(study)
    own.run(out, until="evaluate", progress=False)
    back = out / "decoding"
    page, picture = back / "sub-01.html", back / "sub-01" / "figures" / "reconstructions.png"
    before = page.read_text(), picture.read_bytes()
    moved = tmp_path / "moved"
    study.parent.rename(moved)
    for path in (page, picture):
        path.unlink()
    assert reporting.rebuild(out) == [page]
    assert (page.read_text(), picture.read_bytes()) == before
    moved.rename(study.parent)
    assert not own.run(out, until="evaluate", progress=False).computed


def test_no_page_of_reconstructions_is_made_from_what_is_damaged(study, out):
    Study.read(study).run(out, until="evaluate", progress=False)
    back = out / "decoding"
    for recorded in (True, False):  # by the hash in the record; and by their own, where there is none
        for name in ("sub-01_pictures.npz", "sub-01_reconstructions.json"):
            path = back / "sub-01" / name
            whole = path.read_bytes()
            middle = len(whole) // 2
            path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
            with pytest.raises(IncompleteError, match=name):
                reporting.rebuild(out)
            path.write_bytes(whole)
        if recorded:
            (back / "study.json").unlink()
    assert reporting.rebuild(out) == [back / "sub-01.html"]


def test_scores_of_few_images_have_no_interval(study, out):
    edit(study, "n_images = 12", "n_images = 4").run(out, until="evaluate", progress=False)
    page = (out / "decoding" / "sub-01.html").read_text()
    table = page[page.index("<h3>Images: ") :]
    assert "two-way identification among 4 images" in table
    assert "[" not in table[: table.index("</table>")]
    assert "Scores of fewer than 8 images (n) have no interval" in page


def test_in_folds_whole_folds_are_reconstructed(study, out):
    study.write_text(study.read_text() + "\n[splits]\ncross_validation = 5\n")
    Study.read(study).run(out, until="evaluate", progress=False)
    table = scores(out).query("route == 'retrieval'")
    assert table["n_images"].eq(12).all()
    edit(study, "n_images = 12", "n_images = 13").run(out, until="evaluate", overwrite=True, progress=False)
    assert scores(out).query("route == 'retrieval'")["n_images"].eq(24).all()


def test_shuffled_scores_lie_beside_every_score(study, out):
    Study.read(study).run(out, until="evaluate", progress=False)
    table = scores(out)
    assert np.isfinite(table[["score", "chance", "shuffled", "shuffled_low", "shuffled_high"]]).all().all()
