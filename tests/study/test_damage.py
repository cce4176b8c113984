"""A flipped bit of any part of a folder of results is named, refused or made again, and never used."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _studies import write_folder_study

from latentcortex import Maps, cli
from latentcortex._store import Store
from latentcortex.errors import IncompleteError, InputError, LatentcortexError
from latentcortex.features import MANIFEST, Features
from latentcortex.maps.checkpoint import load_maps, save_maps
from latentcortex.reconstruction import open_reconstructions
from latentcortex.space import Surface, Unlocated, Volume

WAY_BACK = """
[decoding]
bands = ["pixels"]

[evaluation]
n_images = 12
n_bootstrap = 50
"""
KINDS = (
    "features/*/block-*.arrays",
    "features/*/manifest.json",
    "work/*.arrays",
    "sub-01/func/*.tsv",
    "sub-01/func/*.json",
    "sub-01/*_report.json",
    "sub-01/figures/*",
    "sub-01.html",
    "summary.json",
    "references.bib",
    "dataset_description.json",
    "decoding/sub-01/decoded/decoded-*/block-*.arrays",
    "decoding/sub-01/decoded/shuffled-*/manifest.json",
    "decoding/sub-01/reconstructions/decoded/*/*.png",
    "decoding/sub-01/reconstructions/decoded/*/stimuli.tsv",
    "decoding/sub-01/reconstructions/shuffled/*/manifest.json",
    "decoding/sub-01/sub-01_scores.tsv",
    "decoding/sub-01/*_reconstructions.json",
    "decoding/sub-01/*_pictures.npz",
    "decoding/sub-01.html",
)
"""What a finished study consists of."""
BACK = "decoding/sub-01/*_reconstructions.json"
TIMED = ("study.json", "summary.json", ".jsonl", ".html", "_report.json", "_reconstructions.json")
"""How files end that hold times."""


def flip(path: Path, rng: random.Random) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def numbers(folder: Path) -> dict[str, bytes]:
    """Read every file that has the same bytes in every run."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if not name.endswith(TIMED)}


def log(out: Path) -> str:
    return "".join(path.read_text() for path in sorted(out.rglob("latentcortex.jsonl")))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run a study with its way back, once; return the study file and the folder of results."""
    folder = tmp_path_factory.mktemp("finished")
    study = write_folder_study(folder)
    study.write_text(study.read_text() + WAY_BACK)
    assert cli.main(["run", str(study), "--out", str(folder / "out"), "--quiet"]) == 0
    return study, folder / "out"


@pytest.fixture
def copied(finished: tuple[Path, Path], tmp_path: Path) -> Path:
    shutil.copytree(finished[1], tmp_path / "out")
    return tmp_path / "out"


def mended(finished: tuple[Path, Path], out: Path, damaged: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Run the study again, which must name what is damaged and end with the numbers of the first run."""
    assert cli.main(["run", str(finished[0]), "--out", str(out), "--quiet"]) == 0
    assert "Nothing to do" not in capsys.readouterr().out
    told = log(out)
    assert [path.name for path in damaged if path.relative_to(out).name not in told] == []
    assert numbers(out) == numbers(finished[1])
    assert cli.main(["run", str(finished[0]), "--out", str(out), "--quiet"]) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_a_flipped_bit_in_every_kind_of_part_is_named_and_made_again(finished, copied, capsys):
    rng = random.Random(0)
    damaged = [rng.choice(sorted(copied.glob(kind))) for kind in KINDS]
    for path in damaged:
        flip(path, rng)
    mended(finished, copied, damaged, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_in_one_part_is_named_and_made_again(finished, copied, capsys, kind):
    for seed in range(3):
        rng = random.Random(f"{kind} {seed}")
        damaged = rng.choice(sorted(copied.glob(kind)))
        flip(damaged, rng)
        mended(finished, copied, [damaged], capsys)


def test_a_flipped_bit_of_a_feature_block_changes_no_map(finished, copied, capsys):
    """The study goes on from the features alone, as it does after an interruption."""
    block = next(copied.glob("features/*/block-0000.arrays"))
    content = bytearray(block.read_bytes())
    content[len(content) // 2] ^= 1 << 6  # in the exponent of a number
    block.write_bytes(content)
    shutil.rmtree(copied / "work")
    mended(finished, copied, [block], capsys)


def test_every_flipped_bit_of_a_store_is_refused_when_it_is_opened_or_first_read(finished, copied):
    rng = random.Random(1)
    store = next(copied.glob("features/*"))
    expected = Features.open(store).array("pixels")
    for name in (MANIFEST, *["block-0001.arrays"] * 3):
        whole = (store / name).read_bytes()
        for _ in range(50):
            flip(store / name, rng)
            with pytest.raises(IncompleteError, match=name) as refused:
                Features.open(store).array("pixels")
            assert "makes it anew" in str(refused.value) or "un again what it belongs to" in str(refused.value)
            (store / name).write_bytes(whole)
    np.testing.assert_array_equal(Features.open(store).array("pixels"), expected)


def test_a_block_is_compared_with_its_hash_once_for_each_opened_store(finished, monkeypatch):
    from latentcortex import _files

    hashed: list[str] = []
    whole = _files.sha256
    monkeypatch.setattr(_files, "sha256", lambda path: (hashed.append(path.name), whole(path))[1])
    features = Features.open(next(finished[1].glob("features/*")))
    for ids in (features.ids, features.ids[:3]):
        features.select_stimuli(ids).select_bands(["pixels"]).array("pixels")
    assert hashed == ["block-0000.arrays", "block-0001.arrays"]


def test_every_flipped_bit_of_a_reconstruction_is_refused_when_it_is_read(finished, copied):
    rng = random.Random(2)
    folder = next(copied.glob("decoding/sub-01/reconstructions/decoded/*"))
    picture = sorted(folder.glob("*.png"))[3]
    whole = picture.read_bytes()
    for _ in range(30):
        flip(picture, rng)
        stimuli = open_reconstructions(folder)
        with pytest.raises(IncompleteError, match=picture.name):
            stimuli.load(stimuli.ids[3])
        picture.write_bytes(whole)
    assert stimuli.load(stimuli.ids[3]).shape == (16, 16, 3)


@pytest.mark.parametrize("kind", ["sub-01/func/*.tsv", "sub-01/func/*.json", "sub-01/*_report.json"])
def test_a_report_is_not_made_again_from_damaged_maps(finished, copied, capsys, kind):
    rng = random.Random(3)
    page = (copied / "sub-01.html").read_bytes()
    path = rng.choice(sorted(copied.glob(kind)))
    flip(path, rng)
    assert cli.main(["report", str(copied)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert "latentcortex report STUDY.toml" in error
    assert (copied / "sub-01.html").read_bytes() == page


def test_after_a_report_was_made_again_the_study_is_still_done(finished, copied, capsys):
    assert cli.main(["report", str(copied)]) == 0
    assert cli.main(["run", str(finished[0]), "--out", str(copied), "--quiet"]) == 0
    assert "Nothing to do" in capsys.readouterr().out


ABOUT = {"analysis": "latents", "model": "z", "band": "z", "statistic": "r", "unit": "correlation", "n_stimuli": 9}


def planted(space: Unlocated | Surface | Volume) -> Maps:
    values = np.random.default_rng(0).standard_normal((2, space.n_voxels)).astype(np.float32)
    facts = [ABOUT, {**ABOUT, "statistic": "r2"}]
    return Maps.build(space, list(zip(values, facts, strict=True)))


def volume() -> Volume:
    mask = np.random.default_rng(1).random((9, 8, 7)) < 0.5
    return Volume(mask, np.diag([2.0, 2.0, 2.0, 1.0]), "T1w")


@pytest.mark.parametrize("space", [Unlocated(30), Surface("fsaverage5", np.arange(0, 20000, 500)), volume()])
def test_a_flipped_bit_of_a_state_is_never_used(space: Any, tmp_path: Path) -> None:
    store, rng = Store(tmp_path), random.Random(4)
    save_maps(store, "x", planted(space))
    whole = store.path("x").read_bytes()
    for _ in range(150):
        flip(store.path("x"), rng)
        assert load_maps(store, "x", n_voxels=space.n_voxels) is None
        store.path("x").write_bytes(whole)
    assert load_maps(store, "x", n_voxels=space.n_voxels) is not None


def test_a_flipped_bit_of_a_volume_is_refused_or_harmless_without_any_record(tmp_path: Path) -> None:
    before, rng = planted(volume()), random.Random(5)
    before.save(tmp_path, participant="01")
    refused = 0
    for path in sorted(tmp_path.rglob("*.nii.gz")):
        whole = path.read_bytes()
        for _ in range(60):
            flip(path, rng)
            try:
                np.testing.assert_array_equal(Maps.load(tmp_path, participant="01").data, before.data)
            except (IncompleteError, InputError):
                refused += 1
            path.write_bytes(whole)
    assert refused > 150


# What somebody else can write into a folder


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file, with the seal that then fits, and take its hash out of the record."""
    from latentcortex import _files

    content = json.loads(path.read_text())
    sealed = content.pop("seal", None)
    change(content)
    (_files.write_sealed if sealed else _files.write_json)(path, content)
    for record in path.parents:
        if (record / "study.json").is_file():
            known = json.loads((record / "study.json").read_text())
            known["files"].pop(path.relative_to(record).as_posix(), None)
            (record / "study.json").write_text(json.dumps(known))


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail in one line; return the line."""
    assert cli.main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("latentcortex: ")
    return error


def test_a_store_whose_manifest_asks_for_more_than_there_is_or_for_other_files_is_refused(copied):
    store = next(copied.glob("features/*"))
    whole = (store / MANIFEST).read_bytes()
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda known: known["facts"]["dims"].update(pixels=10**9),
        lambda known: known["facts"]["dims"].update(pixels=-1),
        lambda known: known["facts"]["dims"].update(pixels="64"),
        lambda known: known["facts"].update(ids=["s"] * 60),
        lambda known: known["facts"].update(ids=[f"s{i}" for i in range(10**5)]),
        lambda known: known.update(files={"../../../../elsewhere.arrays": "0", **known["files"]}),
        lambda known: known.update(files={f"../{name}": value for name, value in known["files"].items()}),
        lambda known: known.update(files=[]),
        lambda known: known.update(facts=None),
        lambda known: known["facts"].update(made_by=None),
    ]
    for change in changes:
        rewritten(store / MANIFEST, change)
        with pytest.raises(IncompleteError, match=r"manifest of a store|bands take|is missing"):
            Features.open(store)
        (store / MANIFEST).write_bytes(whole)


def test_reconstructions_of_other_files_are_refused(copied):
    folder = next(copied.glob("decoding/sub-01/reconstructions/decoded/*"))
    whole = (folder / "manifest.json").read_bytes()
    for name in ("../../../../../secret.png", "/etc/passwd", "x.png"):
        for change in (
            lambda known, name=name: known["facts"]["reconstructions"][0].update(stim_file=name),
            lambda known, name=name: known["files"].update({name: "0" * 64}),
        ):
            rewritten(folder / "manifest.json", change)
            with pytest.raises(IncompleteError, match="is not that of a folder of reconstructions"):
                open_reconstructions(folder)
            (folder / "manifest.json").write_bytes(whole)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("sub-01/func/*ceiling*.json", lambda known: known["voxel"].update(Columns=10**9)),
        ("sub-01/func/*ceiling*.json", lambda known: known["voxel"].update(Columns="x")),
        ("sub-01/func/*ceiling*.json", lambda known: known.pop("voxel")),
        ("sub-01/func/*Pixels*.json", lambda known: known["r[pixels]"].update(analysis="../../../../escaped")),
        ("sub-01/func/*Pixels*.json", lambda known: known["r[pixels]"].update(analysis=["latents"])),
        ("sub-01/func/*Pixels*.json", lambda known: known["r[pixels]"].update(Column=10**12)),
        ("sub-01/func/*Pixels*.json", lambda known: known["mask[pixels]"].update(q="<script>")),
        ("sub-01/*_report.json", lambda known: known["settings"]["report"].update(format="/../../../escaped.png")),
        ("sub-01/*_report.json", lambda known: known["settings"]["report"].update(width_mm=1e9)),
        ("sub-01/*_report.json", lambda known: known.update(participant="../../escaped")),
        ("sub-01/*_report.json", lambda known: known.update(viewer="javascript:alert(1)")),
        ("sub-01/*_report.json", lambda known: known.update(reconstructions="https://example.org")),
        ("sub-01/*_report.json", lambda known: known.update(facts=7)),
        ("sub-01/*_report.json", lambda known: known["settings"].pop("responses")),
        ("sub-01/*_report.json", lambda known: known.update(methods=7)),
        ("sub-01/*_report.json", lambda known: known["methods"].update(tests=["p"])),
        ("sub-01/*_report.json", lambda known: known.update(references="@misc{x2000,\n  year = {2000},\n}\n")),
        ("sub-01/*_report.json", lambda known: known.update(stages=[{"stage": "x"}])),
        (BACK, lambda known: known["settings"]["report"].update(format="/../../../escaped.png")),
        (BACK, lambda known: known.update(participant="../../escaped")),
        (BACK, lambda known: known.update(report="https://example.org")),
        (BACK, lambda known: known.update(facts=7)),
        (BACK, lambda known: known.update(rows=["seen", "c", "z", "zc"])),
        (BACK, lambda known: known["scores"].update(columns=["route"])),
        (BACK, lambda known: known.update(pictures="0")),
        (BACK, lambda known: known.update(stages=[{"stage": "x"}])),
    ],
)
def test_what_somebody_else_wrote_beside_maps_ends_in_one_line_and_writes_nothing(copied, capsys, kind, change):
    (path,) = sorted(copied.glob(kind))
    rewritten(path, change)
    before = {path: path.read_bytes() for path in copied.parent.rglob("*") if path.is_file()}
    error = said(capsys, "report", str(copied))
    after = {path: path.read_bytes() for path in copied.parent.rglob("*") if path.is_file()}
    changed = {
        path.relative_to(copied).parts[0] for path in set(after.items()) ^ set(before.items()) for path in path[:1]
    }
    # Figures may be drawn before the text is found wrong, and the pages of maps come before those of reconstructions.
    pages = {"decoding", "sub-01.html", "study.json"} if kind == BACK else set()
    assert changed <= {"sub-01", "references.bib", "logs"} | pages, error
    journals = {copied / "logs", copied / "decoding" / "logs"}
    assert {path.parent for path in set(after) - set(before)} <= journals


def test_markup_in_a_folder_of_results_is_shown_as_it_is(copied, capsys):
    markup = '<script>alert(1)</script><img src=x onerror=alert(1)>"'

    def change(known: dict[str, Any]) -> None:
        known["settings"]["dataset"]["root"] = markup
        known["made_by"][markup] = markup
        known["facts"][markup] = markup
        known["stages"][0]["stage"] = markup

    rewritten(copied / "sub-01" / "sub-01_report.json", change)
    (sidecar,) = copied.glob("sub-01/func/*Pixels*.json")
    rewritten(sidecar, lambda known: known["p[pixels]"].update(null=markup))
    assert cli.main(["report", str(copied)]) == 0
    page = (copied / "sub-01.html").read_text()
    assert page.count("<script>") == 1
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_link_out_of_a_folder_of_results_is_not_written_through(copied, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(copied / "sub-01" / "figures", elsewhere)
    (copied / "sub-01" / "figures").symlink_to(elsewhere)
    (elsewhere / "latents-pixels.png").write_text("mine")
    error = said(capsys, "report", str(copied))
    assert "figures is, or lies in, a link" in error
    assert (elsewhere / "latents-pixels.png").read_text() == "mine"


def test_a_volume_that_claims_more_places_than_there_can_be_is_refused(tmp_path: Path) -> None:
    planted(volume()).save(tmp_path, participant="01")
    (path,) = tmp_path.rglob("*desc-voxels_mask.json")
    for grid in ([10**4, 10**4, 10**4], [9, 8], [9, 8, -7], "987"):
        rewritten(path, lambda known, grid=grid: known.update(Grid=grid))
        with pytest.raises(LatentcortexError, match="Grid"):
            Maps.load(tmp_path, participant="01")
    rewritten(path, lambda known: known.update(Grid=[9, 8, 8]))
    with pytest.raises(IncompleteError, match="missing or damaged"):
        Maps.load(tmp_path, participant="01")
