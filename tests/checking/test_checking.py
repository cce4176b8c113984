"""Every rule of the linter catches what it is for, and passes a clean design."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from _subjects import freesurfer_subject
from PIL import Image
from scipy import signal

from latentcortex import Features, Responses, checking, cli, reporting
from latentcortex.checking import RULES, StudyDesign, findings
from latentcortex.encoding import Criterion
from latentcortex.errors import InputError
from latentcortex.space import Surface, Unlocated
from latentcortex.splits import Splits
from latentcortex.stimuli import ImageFingerprint, Stimuli

IDS = [f"s{i:03d}" for i in range(160)]
TRAIN, TEST = IDS[:100], IDS[100:]


def picture(name: str) -> np.ndarray:
    """Draw something smooth that depends on the id only."""
    rng = np.random.default_rng(list(name.encode()))
    return np.asarray(Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((48, 48)))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def fingerprints(**changed: np.ndarray) -> dict[str, ImageFingerprint]:
    load: Callable[[str], np.ndarray] = lambda name: changed.get(name, picture(name))  # noqa: E731
    return Stimuli(pd.DataFrame({"captions": [()] * len(IDS)}, index=pd.Index(IDS)), load).fingerprints()


def responses(data: np.ndarray) -> Responses:
    n = len(IDS)
    return Responses.single_trials(
        data.astype(np.float32), Unlocated(data.shape[1]), stimulus=IDS, session=["1"] * n, run=["1"] * n
    )


def features(**changed: np.ndarray) -> Features:
    rng = np.random.default_rng(0)
    bands = {"z": rng.standard_normal((160, 30)), "zc": rng.standard_normal((160, 40)), **changed}
    return Features.from_arrays(IDS, bands)


@pytest.fixture(scope="module")
def clean() -> StudyDesign:
    rng = np.random.default_rng(1)
    return StudyDesign(
        responses(rng.standard_normal((160, 200))),
        Splits.held_out(TRAIN, TEST),
        Criterion(),
        fingerprints=fingerprints(),
        features=features(),
        models=[("z",), ("zc",), ("z", "zc")],
    )


def near(values: np.ndarray, of: int, row: int) -> np.ndarray:
    """Make one row nearly another."""
    out = values.copy()
    out[row] = out[of] * (1 + 1e-3)
    return out


def in_sessions(clean: StudyDesign, n_rows: int) -> StudyDesign:
    """Z-score by sessions of so many stimuli, every eighth of which is tested on."""
    given = clean.responses
    rows = given.rows.assign(session=[str(i // n_rows) for i in range(len(IDS))])
    splits = Splits.held_out([name for i, name in enumerate(IDS) if i % 8], IDS[::8])
    return replace(clean, responses=Responses(given.data, rows, given.space), splits=splits, zscore="session")


def twice(given: Responses) -> Responses:
    """Show every stimulus twice in the same run."""
    rows = pd.concat([given.rows, given.rows], ignore_index=True)
    return Responses(np.concatenate([given.data, given.data + 1]), rows, given.space)


def in_blocks(clean: StudyDesign, held_out: str, *, drift: bool = True, blocks: bool = True) -> StudyDesign:
    """Show 20 kinds of stimuli in blocks of four, in 8 runs, to voxels that drift; test every fifth trial, or run 8."""
    rng = np.random.default_rng(3)
    kind = np.repeat(rng.permutation(20).tolist() * 2, 4)
    kind = kind if blocks else rng.permutation(kind)
    z = rng.standard_normal((20, 30))[kind] + 0.5 * rng.standard_normal((160, 30))
    slow = signal.lfilter([1], [1, -0.7], rng.standard_normal((160, 200)), axis=0)
    rows = clean.responses.rows.assign(run=[str(i // 20) for i in range(160)])
    data = (slow if drift else rng.standard_normal((160, 200))).astype(np.float32)
    test = IDS[140:] if held_out == "runs" else IDS[::5]
    return replace(
        clean,
        responses=Responses(data, rows, clean.responses.space),
        features=features(z=z, zc=np.c_[z, rng.standard_normal((160, 5))]),
        splits=Splits.held_out([name for name in IDS if name not in test], test),
        zscore="run",
    )


def shifted(given: Responses, by: float = 0.7) -> Responses:
    """Move the mean of the test stimuli, which are shown in a session of their own."""
    is_test = given.rows["stimulus"].isin(TEST).to_numpy()
    rows = given.rows.assign(session=np.where(is_test, "2", "1"))
    return Responses(given.data + np.float32(by) * is_test[:, None], rows, given.space)


def seeded(clean: StudyDesign) -> dict[str, StudyDesign]:
    """Break every rule once."""
    rng = np.random.default_rng(2)
    z, zc = (features().array(band) for band in ("z", "zc"))
    slow = signal.lfilter([1], [1, -0.8], rng.standard_normal((160, 200)), axis=0)
    folds = Splits(tuple(IDS), np.repeat([0, 1], 80), tuple(IDS))
    test_chosen = clean.responses.select_voxels(np.arange(200) < 50, chosen_on=IDS[90:110])
    return {
        "straddling": replace(clean, fingerprints=fingerprints(s150=picture("s003"))),
        "fitted-on-test": replace(clean, features=features().reduce(20, fit_on=IDS[:130])),
        "voxel-selection": replace(clean, responses=test_chosen),
        "parametric-null": replace(clean, splits=folds, criterion=Criterion(null="analytic")),
        "same-image": replace(clean, fingerprints=fingerprints(s050=picture("s003"))),
        "near-duplicate": replace(clean, features=features(z=near(z, 5, 106), zc=near(zc, 5, 106))),
        "near-duplicate-within": replace(clean, features=features(z=near(z, 5, 6), zc=near(zc, 5, 6))),
        "mini-blocks": in_blocks(clean, held_out="trials"),
        "shifted-baseline": replace(clean, responses=shifted(clean.responses)),
        "few-training-rows": in_sessions(clean, 16),
        "repeats-within-run": replace(clean, responses=twice(clean.responses)),
        "cut-captions": replace(clean, cut="3 of 9 captions are longer than the window."),
        "few-permutations": replace(clean, criterion=Criterion(null="permutation", n_permutations=99)),
        "small-test-set": replace(clean, splits=Splits.held_out(IDS[:150], IDS[150:])),
        "collinear-bands": replace(clean, features=features(zc=np.c_[z, 0.01 * rng.standard_normal((160, 9))])),
        "unequal-widths": replace(clean, features=features(zc=z[:, :1])),
        "parametric-null of a time series": replace(
            clean,
            responses=responses(slow),
            features=features(z=np.c_[slow[:, :10]]),
            criterion=Criterion(null="analytic"),
        ),
        "parametric-null of clusters": replace(clean, unit="cluster", criterion=Criterion(null="analytic")),
        "parametric-null of near-duplicates": replace(
            clean, features=features(z=near(z, 105, 106), zc=near(zc, 105, 106)), criterion=Criterion(null="analytic")
        ),
        "few-permutations of clusters": replace(clean, unit="session", clusters=["1", "2", "3"] * 40),
        "near-duplicate-within by eye": replace(clean, fingerprints=fingerprints(s050=jpeg(picture("s003"), 60))),
        "near-duplicate by a mirror": replace(clean, fingerprints=fingerprints(s150=picture("s003")[:, ::-1])),
    }


def test_a_clean_design_passes_every_rule(clean) -> None:
    assert findings(clean) == []
    assert all(rule.can(clean) for rule in RULES.values())


def test_every_rule_catches_what_it_is_for(clean) -> None:
    broken = seeded(clean)
    assert set(RULES) <= set(broken)
    for name, design in broken.items():
        assert name.split()[0] in {one.rule for one in findings(design)}, name


def test_what_is_broken_is_named_with_what_to_do(clean) -> None:
    found = {one.rule: one.what for one in findings(seeded(clean)["straddling"])}
    assert found["straddling"] == "1 image on both sides of a split (s003 = s150); put each image on one side."
    (one,) = findings(
        replace(
            clean, features=features(z=near(features().array("z"), 5, 155), zc=near(features().array("zc"), 5, 155))
        )
    )
    assert one.what == (
        "1 pair of stimuli with nearly equal features on both sides of a split (s005 = s155); put both on one side, or "
        "leave one out."
    )
    (one,) = findings(seeded(clean)["few-permutations"])
    assert "set n_permutations to at least 399" in one.what


def test_mini_blocks_are_refused_only_where_stimuli_follow_like_ones_and_voxels_drift_within_runs(clean) -> None:
    def rules(design: StudyDesign) -> set[str]:
        return {one.rule for one in findings(design)}

    assert "mini-blocks" in rules(in_blocks(clean, "trials"))
    assert "mini-blocks" not in rules(in_blocks(clean, "trials", drift=False))
    assert "mini-blocks" not in rules(in_blocks(clean, "trials", blocks=False))
    assert "mini-blocks" not in rules(in_blocks(clean, "runs"))


def test_a_table_that_is_sorted_by_category_is_no_mini_blocks(clean) -> None:
    """Voxels that tell four categories apart, 40 stimuli each in a row: neighbours are as alike as those far apart."""
    rng = np.random.default_rng(4)
    kind = np.repeat(np.arange(4), 40)
    z = rng.standard_normal((4, 30))[kind] + rng.standard_normal((160, 30))
    y = rng.standard_normal((4, 200))[kind] + rng.standard_normal((160, 200))
    splits = Splits.held_out([name for i, name in enumerate(IDS) if i % 5], IDS[::5])
    bands = features(z=z, zc=np.c_[z, rng.standard_normal((160, 5))])
    design = replace(clean, responses=responses(y), features=bands, splits=splits)
    assert "mini-blocks" not in {one.rule for one in findings(design)}


@pytest.mark.parametrize(("n_kinds", "size"), [(4, 10), (8, 6), (8, 12), (10, 10)])
def test_few_borders_between_categories_say_nothing_of_drift(clean, n_kinds: int, size: int) -> None:
    """Sorted by so few categories, a table has too few unlike neighbours: drift is not taken for granted."""
    rng = np.random.default_rng(5)
    ids, kind = IDS[: n_kinds * size], np.repeat(np.arange(n_kinds), size)
    z = rng.standard_normal((n_kinds, 30))[kind] + 0.5 * rng.standard_normal((len(ids), 30))
    y = z @ rng.standard_normal((30, 200)) / 30**0.5 + rng.standard_normal((len(ids), 200))
    rows = clean.responses.rows.iloc[: len(ids)]
    splits = Splits.held_out([name for i, name in enumerate(ids) if i % 5], ids[::5])
    shown = Responses(y.astype(np.float32), rows, clean.responses.space)
    design = replace(
        clean, responses=shown, features=Features.from_arrays(ids, {"z": z}), models=[("z",)], splits=splits
    )
    assert "mini-blocks" not in {one.rule for one in findings(replace(design, fingerprints={}))}


def test_another_mean_of_test_sessions_is_told_unless_they_are_z_scored(clean) -> None:
    (one,) = findings(replace(clean, responses=shifted(clean.responses)))
    assert one.rule == "shifted-baseline"
    assert "differ from those to fitted ones by 0.7" in one.what
    assert findings(replace(clean, responses=shifted(clean.responses), zscore="session")) == []
    assert findings(replace(clean, responses=shifted(clean.responses, by=0.0))) == []


def test_runs_that_are_held_out_together_on_both_sides_of_the_others_are_told_by_their_baselines(
    clean: StudyDesign,
) -> None:
    """Their mean is that of the fitted ones: 3 folds of 2 of 6 runs, whose baselines are 0, 2, 4, ... 10."""
    run = np.arange(160) % 6
    rows = clean.responses.rows.assign(run=[str(k) for k in run])
    runs = tuple(str(k) for k in run)
    splits = Splits(tuple(IDS), np.array([0, 1, 2, 2, 1, 0])[run], runs, "run")
    for step, rules in ((2.0, ["shifted-baseline"]), (0.0, [])):
        data = clean.responses.data + np.float32(step) * run[:, None].astype(np.float32)
        design = replace(clean, responses=Responses(data, rows, clean.responses.space), splits=splits, unit="run")
        assert [one.rule for one in findings(design) if one.rule == "shifted-baseline"] == rules


def test_stimuli_of_one_category_are_no_near_duplicates(clean) -> None:
    """8 kinds in one-hot columns, or 12 words of which stimuli have some: equal rows are different stimuli."""
    rng = np.random.default_rng(0)
    for x in (np.eye(8)[rng.integers(0, 8, 160)], (rng.random((160, 12)) < 0.12) * 1.0):
        design = replace(clean, features=features(z=x, zc=x), models=[("z",)])
        assert not {one.rule for one in findings(design)} & {"near-duplicate", "near-duplicate-within"}


def test_sessions_of_few_training_rows_are_told_with_what_they_cost(clean) -> None:
    (one,) = findings(in_sessions(clean, 16))
    assert one.what.startswith(
        "10 of 10 sessions have fewer than 20 training rows, the fewest 14 (session 0): where all"
    )
    assert "costs 12% of R²; set zscore = 'none', or hold out fewer stimuli of each session" in one.what
    (one,) = findings(in_sessions(clean, 8))
    assert "the fewest 7 (session 0): z-scoring needs at least 8; set" in one.what
    assert findings(in_sessions(clean, 32)) == []
    assert findings(replace(in_sessions(clean, 8), zscore="none")) == []


def test_rules_of_features_wait_until_there_are_some(clean) -> None:
    before = replace(clean, features=None, fingerprints={})
    assert findings(before) == []
    assert {name for name, rule in RULES.items() if not rule.can(before)} == {
        *("fitted-on-test", "mini-blocks", "same-image", "collinear-bands", "unequal-widths"),
    }


def test_grave_rules_are_refused_unless_allowed_and_others_are_told(clean, caplog) -> None:
    for name, design in seeded(clean).items():
        rule = name.split()[0]
        if RULES[rule].grave:
            with pytest.raises(InputError, match=f"{rule}: .*--allow {rule}"):
                checking.refuse(design)
        caplog.clear()
        checking.refuse(design, [rule])
        checking.tell(design, [rule])
        assert f"Allowed: {rule}: " in caplog.text
    with pytest.raises(InputError, match=r"Unknown rule 'stradling'\. Did you mean 'straddling'"):
        checking.refuse(clean, ["stradling"])


def test_copies_of_another_quality_or_size_look_alike_and_other_pictures_do_not(clean) -> None:
    assert clean.likeness.copies == []
    small = {name: np.asarray(Image.fromarray(picture(name)).resize((40, 40)).resize((48, 48))) for name in IDS[:40]}
    compressed = {name: jpeg(picture(name), 60) for name in IDS[:40]}
    for altered in (small, compressed):
        changed = fingerprints(**{f"s{int(name[1:]) + 40:03d}": image for name, image in altered.items()})
        assert checking.of_copies(changed, IDS) == [(IDS[i], IDS[i + 40]) for i in range(40)]


def test_the_command_says_what_every_rule_found_and_its_exit_code_tells(folder_study, tmp_path, capsys) -> None:
    assert cli.main(["check", str(folder_study), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "straddling            ok" in said
    assert "collinear-bands       not looked at before features are extracted" in said
    assert not (tmp_path / "out").exists()
    stimuli = folder_study.parent / "data" / "stimuli"
    (stimuli / "s050.png").write_bytes((stimuli / "s003.png").read_bytes())
    assert cli.main(["check", str(folder_study), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert "same-image            refused: 1 image under two ids (s003 = s050)" in captured.out
    assert "straddling" in captured.err
    allowed = ["--allow", "straddling", "--allow", "same-image"]
    assert cli.main(["check", str(folder_study), "--out", str(tmp_path / "out"), *allowed]) == 0
    assert "straddling            allowed: 1 image" in capsys.readouterr().out
    assert cli.main(["run", str(folder_study), "--out", str(tmp_path / "out"), "--quiet", *allowed]) == 0
    assert "Allowed: straddling: 1 image on both sides" in (tmp_path / "out" / "sub-01.html").read_text()
    assert cli.main(["check", str(folder_study), "--out", str(tmp_path / "out"), *allowed]) == 0
    assert "collinear-bands       ok" in capsys.readouterr().out


STOPS = {
    "a backend that is not here": ('name = "banded_ridge"', 'name = "banded_ridge"\nbackend = "mps"', "mps"),
    "a backend of himalaya's": (
        'name = "banded_ridge"',
        'name = "himalaya"\nbackend = "none"',
        "Unknown backend of estimator 'himalaya': 'none'",
    ),
    "mixtures that no word names": ('name = "banded_ridge"', 'name = "banded_ridge"\nmixtures = "equl"', "'equl'"),
    "mixtures for other bands": (
        'name = "banded_ridge"',
        'name = "banded_ridge"\nmixtures = [[0.5, 0.5]]',
        "mixtures are (1, 2); expected (n_mixtures, 1)",
    ),
    "a scale that himalaya has not": (
        'name = "banded_ridge"',
        'name = "himalaya"\nscale = "trac"',
        "Did you mean 'trace'?",
    ),
    "penalties below 0 of himalaya's": (
        'name = "banded_ridge"',
        'name = "himalaya"\nalphas = [-1]',
        "each a number above 0",
    ),
    "a misspelt estimator": ('name = "banded_ridge"', 'name = "banded_rigde"', "Did you mean 'banded_ridge'?"),
    "a misspelt argument": ('name = "banded_ridge"', 'name = "banded_ridge"\nalpahs = [1]', "Did you mean 'alphas'?"),
    "a misspelt reconstructor": ("q = 0.05", 'q = 0.05\n[reconstructor]\nname = "retreival"', "'retrieval'?"),
    "neither z nor c to decode": ("q = 0.05", "q = 0.05\n[decoding]", "neither z nor c is among the bands"),
    "captions that c needs": ('name = "pixels"\nsize = 8', 'name = "ldm"\nmodel = "phantom"', "Band c needs captions"),
    "more folds than training images": ('name = "banded_ridge"', 'name = "banded_ridge"\ncv = 41', "41 folds need"),
    "more components than training images": ('run = ["latents"]', 'run = ["latents"]\nn_dims = 40', "at most 39"),
    "too few images for clusters": ('run = ["latents"]', 'run = ["generalisation"]', "two stimuli per cluster"),
    "no background": ('root = "data"', 'root = "data"\nMASK\nbackground = "no.nii"', "no.nii is missing"),
    "a background that is no anatomy": (
        'root = "data"',
        'root = "data"\nMASK\nbackground = "mask4.nii"',
        "expected anatomy",
    ),
    "nothing to decode": ("q = 0.05", 'q = 0.05\n[decoding]\nbands = ["z"]', "Nothing to decode"),
    "no such category": (
        "q = 0.05",
        'q = 0.05\n[decoding]\nbands = ["pixels"]\n[evaluation]\ncategory = "kind"\n'
        '[reconstructor]\nname = "retrieval"',
        "Unknown column of the stimuli, for `category`: 'kind'",
    ),
    "too few images to decode from": (
        "q = 0.05",
        'q = 0.05\n[decoding]\nbands = ["pixels"]\n[reconstructor]\nname = "retrieval"\n'
        '[splits]\ncross_validation = 2\n[responses]\nzscore = "none"',
        "folds need at least 5 different rows",
    ),
}
MASK = 'mask = "mask.nii"\nreference = "T1w"'


@pytest.mark.parametrize("fault", STOPS)
def test_what_would_stop_a_run_later_stops_the_check(fault: str, folder_study, tmp_path, capsys) -> None:
    import nibabel as nib

    old, new, says = STOPS[fault]
    if '"ldm"' in new:
        pytest.importorskip("torch")
    data = folder_study.parent / "data"
    nib.save(nib.Nifti1Image(np.ones((5, 3, 2), np.uint8), np.eye(4)), data / "mask.nii")
    nib.save(nib.Nifti1Image(np.ones((5, 3, 2, 3), np.uint8), np.eye(4)), data / "mask4.nii")
    text = folder_study.read_text()
    assert old in text
    folder_study.write_text(text.replace(old, new.replace("MASK", MASK), 1))
    if fault == "too few images to decode from":
        table = pd.read_csv(data / "trials.tsv", sep="\t", dtype=str)
        kept = table["stimulus_id"].isin([f"s{i:03d}" for i in range(8)])
        table[kept].to_csv(data / "trials.tsv", sep="\t", index=False)
        np.save(data / "responses.npy", np.load(data / "responses.npy")[kept])
        folder_study.write_text(
            folder_study.read_text().replace('name = "banded_ridge"', 'name = "banded_ridge"\ncv = 2')
        )
    assert cli.main(["check", str(folder_study), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_flat_surface_that_is_damaged_stops_the_check(tmp_path) -> None:
    subject = freesurfer_subject(tmp_path / "subject")
    patch = subject / "surf" / "lh.full.flat.patch.3d"
    patch.write_bytes(patch.read_bytes()[:100])
    with pytest.raises(InputError, match=r"lh\.full\.flat\.patch\.3d"):
        reporting.check_cortex(Surface(str(subject)))
