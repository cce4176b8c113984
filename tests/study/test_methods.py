"""The methods text is true: what it says of estimators is what they do, and of tests what the sidecars say."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from latentcortex import Encoder, Features, Responses, datasets, estimators, extractors, reconstructors
from latentcortex._methods import MethodsPart, cited_keys, literature, read_bibtex, sentences_of, with_citations
from latentcortex.analyses import Scorer
from latentcortex.analyses.latents import Latents
from latentcortex.encoding import Criterion, HeldOutSides, ReadByChunk
from latentcortex.encoding.criterion import NULLS, Null
from latentcortex.encoding.methods import CORRECTED, FAMILY, SHARES
from latentcortex.errors import InputError
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.inference.corrections import PROCEDURES
from latentcortex.maps import Maps
from latentcortex.reporting import Content, methods, references
from latentcortex.space import Unlocated
from latentcortex.splits import UNITS, Splits
from latentcortex.study.methods import of_parts, of_results, of_routes, plain

BANDED = [{"name": "banded_ridge", "selection": kind} for kind in ("auto", "gcv", "loo", "kfold")]
DATASET_ARGUMENTS: dict[str, dict[str, Any]] = {
    "phantom": {"n_train": 80, "n_test": 40},
    "folder": {"root": str(Path(__file__).parent)},
}
"""Of datasets that are made from nothing that was downloaded; the others' texts are tested with them."""
DATASETS = {name: (datasets.make(name, **arguments), name, arguments) for name, arguments in DATASET_ARGUMENTS.items()}
GIVEN = [
    *BANDED,
    {"name": "banded_ridge", "scale": None, "mixtures": "equal", "fit_intercept": False, "refine": False},
    {"name": "banded_ridge", "alphas": [10.0]},
    *({"name": "ridge", "scale": scale, "cv": 4, "selection": "kfold"} for scale in ("trace", None)),
    {"name": "takagi2023-released"},
    {"name": "himalaya"},
    {"name": "himalaya", "scale": None, "mixtures": "equal", "cv": 3},
]


def recording(n: int = 120, n_voxels: int = 12) -> tuple[dict[str, np.ndarray], np.ndarray, Responses]:
    rng = np.random.default_rng(0)
    bands = {"a": rng.standard_normal((n, 5)), "b": rng.standard_normal((n, 5))}
    weights = [rng.standard_normal((5, n_voxels)) * scale for scale in (np.linspace(0, 1, n_voxels), 0.5)]
    y = sum(x @ w for x, w in zip(bands.values(), weights, strict=True)) + 3 + rng.standard_normal((n, n_voxels))
    ids = [f"s{i:03d}" for i in range(n)]
    about = {"stimulus": ids, "session": ["1"] * n, "run": ["1"] * n}
    return bands, y, Responses.single_trials(y.astype(np.float32), Unlocated(n_voxels), **about)


IDS = [f"s{i:03d}" for i in range(120)]
TEST_SET = Splits.held_out(IDS[:80], IDS[80:])


def content_of(
    maps: Maps,
    *,
    splits: Splits = TEST_SET,
    criterion: Criterion | None = None,
    dataset: str = "phantom",
    n_trials: int = 0,
    **others: Any,
) -> Content:
    """Put together what a report states of these maps; `others` are an estimator or an extractor, with arguments."""
    n_trials = n_trials or len(splits.ids)
    picked: dict[str, dict[str, Any]] = {
        "estimator": {"name": "banded_ridge"},
        "extractor": {"name": "pixels", "bands": ["pixels", "colour"]},
    }
    parts = {"dataset": MethodsPart(*DATASETS[dataset])}
    for kind, given in {**picked, **others}.items():
        arguments = {key: value for key, value in given.items() if key != "name"}
        shelf = {"estimator": estimators, "extractor": extractors}[kind]
        parts[kind] = MethodsPart(shelf.make(given["name"], **arguments), given["name"], arguments)
    joint = maps.columns["model"].str.contains("+", regex=False).any()
    bands = parts["extractor"].made.bands
    written = of_parts(parts, participant="01", models=[bands] if joint else [(band,) for band in bands])
    written |= of_results(maps, criterion or Criterion(), splits, averaged=n_trials > len(splits.ids))
    texts, more = plain(written)
    facts = {"n_trials": n_trials, "n_sessions": 1, "n_voxels": 12, "n_valid": 12, "n_stimuli": len(splits.ids)}
    kept = {"responses": {"zscore": "none"}, "analyses": {"n_dims": 0}}
    return Content("01", maps, None, facts, kept, {"name": "pixels"}, Path("log"), methods=texts, references=more)


def text(maps: Maps, **given: Any) -> str:
    """Write the methods of these maps."""
    return " ".join(methods(content_of(maps, **given)))


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: "-".join(map(str, given.values())))
def test_the_text_says_of_an_estimator_what_it_does(given: dict[str, Any]) -> None:
    bands, _, responses = recording()
    own = estimators.make(given["name"], **{key: value for key, value in given.items() if key != "name"})
    train, test = responses.split(test_ids=responses.ids[80:], zscore="none")

    def fitted(factor: float) -> Encoder:
        scaled = Features.from_arrays(responses.ids, {"a": bands["a"] * factor, "b": bands["b"]})
        return Encoder(own).fit(scaled, train)

    encoder = fitted(1.0)
    maps = encoder.score(Features.from_arrays(responses.ids, bands), test)
    said = re.sub("The variance explained by joint models.*?[.] ", "", text(maps, estimator=given) + " ")
    predicted = [one.model.parts(one.model.features, test.ids) for one in (encoder, fitted(20.0))]
    assert np.allclose(*predicted, atol=1e-3) == ("scaled to equal mean kernel diagonal" in said)
    assert np.allclose(*predicted, atol=1e-3) != ("bands were not scaled" in said)
    model = encoder.model.estimator
    assert np.allclose(model.offset_, 0) == ("without an intercept" in said)
    assert (len(np.unique(model.mixtures_, axis=1).T) > 1) == ("and the mixture of bands chosen" in said)
    assert (len(np.unique(model.mixtures_, axis=1).T) == 1) == ("one penalty for all bands" in said)
    grid = np.unique(np.asarray(own.alphas, dtype=float))
    inside = np.isclose(model.alphas_[:, None], grid, rtol=1e-4).any(1)
    assert ("and between these" in said) >= bool((~inside).any())
    assert ("the penalty 10 for every voxel" in said) == (len(grid) == 1)
    folds = re.search(r"by (\d) folds of stimuli", said)
    chosen = (
        own.cv
        if isinstance(own, estimators.DescribedEstimator) and getattr(own, "selection", "kfold") == "kfold"
        else 0
    )
    assert (int(folds[1]) if folds else 0) == chosen
    assert ("generalised cross-validation" in said) == (getattr(own, "selection", "kfold") in ("auto", "gcv"))
    assert ("leaving one stimulus out" in said) == (getattr(own, "selection", "") == "loo")
    assert ("himalaya" in said) == (given["name"] == "himalaya")
    assert ("Dupré la Tour et al., 2022" in said) == ("one penalty for all bands" not in said)


def test_the_text_of_every_estimator_of_the_shelf_is_compared_with_what_it_does() -> None:
    assert {given["name"] for given in GIVEN} == set(estimators.SHELF.where)


@pytest.mark.parametrize("null", ["analytic", "permutation", "blocks", "shift"])
def test_the_text_names_the_null_of_a_test_set(null: str) -> None:
    bands, _, responses = recording()
    train, test = responses.split(test_ids=responses.ids[80:], zscore="none")
    how = Criterion(null=null, n_permutations=19, identifiability=False)
    scorer = Scorer(Features.from_arrays(responses.ids, bands), HeldOutSides(train, test), BandedRidge, how)
    maps = scorer.score(Latents("latents", (("a",),)))
    said = text(maps, estimator={"name": "banded_ridge"})
    (words,) = maps.find_columns(statistic="p").columns["null"]
    assert f"One-sided p-values came from the null of {words}." in said
    assert "fitted on 80 stimuli" in said
    assert "responses to 40 held-out stimuli" in said
    assert "pooled" not in said


@pytest.mark.parametrize(("unit", "words"), [("stimulus", "permutations of stimuli"), ("session", "whole clusters")])
def test_the_text_of_folds_says_where_pooled_r_lies_without_signal(unit: str, words: str) -> None:
    rng = np.random.default_rng(1)
    n, n_voxels = 48, 150
    ids = [f"s{i:02d}" for i in range(n)]
    about = {"stimulus": ids, "session": [f"{i % 6}" for i in range(n)], "run": ["1"] * n}
    noise = rng.standard_normal((n, n_voxels)).astype(np.float32)
    responses = Responses.single_trials(noise, Unlocated(n_voxels), **about)
    groups = ids if unit == "stimulus" else about["session"]
    splits = Splits.k_fold(ids, 6, groups=groups, unit=unit, seed=0)
    features = Features.from_arrays(ids, {"a": rng.standard_normal((n, 4))})
    how = Criterion(n_permutations=39)
    maps = Scorer(features, ReadByChunk.of(responses, splits, "none"), BandedRidge, how).score(
        Latents("latents", (("a",),))
    )
    (median,) = maps.find_columns(statistic="r").columns["null_median"]
    r = maps.values(statistic="r")
    assert median < -0.1
    assert abs(np.median(r) - median) < 0.12  # voxels share one draw of features
    said = text(maps, splits=splits)
    assert f"here at {median:.2f} (median over permutations and voxels)" in said
    assert words in said
    assert ("hold out whole sessions" in said) == (unit == "session")


# The text joins what the parts of a run say, for every run that the shelves allow


def fold_of(unit: str) -> Splits:
    """Five folds of 120 stimuli in thirty groups of four."""
    embedding = "pixels" if unit == "cluster" else ""
    made = Splits.k_fold(IDS, 5, groups=[str(i // 4) for i in range(120)], unit=unit, seed=0)
    return replace(made, embedding=embedding)


SPLITS = {
    "split": TEST_SET,
    "shared": Splits.labelled(IDS, ["train"] * 90 + ["test"] * 30),
    "far": replace(Splits.held_out(IDS[:108], IDS[108:], name="far"), embedding="pixels"),
    **{unit: fold_of(unit) for unit in UNITS},
}
NULLS_MADE = {kind: Null(kind, 100, 0) for kind in NULLS if kind != "auto"} | {
    "analytic": Null("analytic", 1000, 0),
    "permutation": Null("permutation", 1000, 0),
    "blocks": Null("blocks", 500, 0, block=7),
    "shift": Null("shift", 99, 0, block=5),
    "clusters": Null("clusters", 512, 0, clusters=tuple("ab" * 20)),
}
OF_SPLIT = {
    "split": ("fitted on 80 stimuli and predicted responses to 40 held-out stimuli.",),
    "shared": ("fitted on 90 stimuli and predicted responses to 30 held-out stimuli.",),
    "far": ("to 12 held-out stimuli, those farthest from all others in the features of pixels.",),
    "stimulus": ("into 5 folds that keep together images", "pooled over folds"),
    "session": ("into 5 folds that hold out whole sessions.", "pooled over folds"),
    "run": ("into 5 folds that hold out whole runs.", "pooled over folds"),
    "cluster": ("whole clusters of stimuli (30, by k-means of the features of pixels", "pooled over folds"),
}
OF_NULL = {
    "analytic": "the null of independent Gaussian vectors",
    "permutation": "the null of 1000 permutations of stimuli",
    "blocks": "the null of 500 permutations of stretches of 7 rows",
    "shift": "the null of 99 circular shifts by at least 5 rows",
    "clusters": "the null of 512 flips of signs of whole clusters",
}
OF_DATASET = {"phantom": "The participant is simulated", "folder": "were used as they were given"}


@cache
def planned(null: Null, *, joint: bool) -> Maps:
    """The columns of one model, as if it had been fitted and tested."""
    model, values = ("a+b" if joint else "pixels"), np.zeros(12, dtype=np.float32)
    about = {"analysis": "latents", "model": model, "band": "" if joint else model, "unit": "", "n_stimuli": 40}
    tested = {"null": str(null), "q": 0.05, "correction": "bh", "family": "all"}
    columns = [(values, {**about, "statistic": name}) for name in ("r", "r2")]
    columns += [(values, {**about, **tested, "statistic": name}) for name in ("p", "q", "mask")]
    columns += [(values, {**about, "band": band, "statistic": "shareR2"}) for band in ("a", "b") if joint]
    return Maps.build(Unlocated(12), columns)


def sentences(said: str) -> list[str]:
    """Part a text into sentences, none of which ends within a name."""
    return re.split(r"(?<=[.]) (?=[A-Z])", said)


@pytest.mark.parametrize("name", estimators.SHELF.where)
def test_every_estimator_split_null_and_dataset_gives_a_true_text_that_cites_what_its_parts_cite(name: str) -> None:
    estimator = estimators.make(name)
    banded = not (isinstance(estimator.mixtures, str) and estimator.mixtures == "equal")
    every = product(SPLITS.items(), NULLS_MADE, DATASETS, (False, True))
    for (split, splits), kind, dataset, joint in every:
        null = replace(NULLS_MADE[kind], refits=len(splits) > 1)
        maps = planned(null, joint=joint)
        content = content_of(maps, splits=splits, dataset=dataset, estimator={"name": name})
        said = " ".join(methods(content))
        for known, words in OF_SPLIT.items():
            assert all(word in said for word in words[:1]) == (known == split), said
        assert f"the null of {null}." in said
        assert [one for one, (made, _, _) in DATASETS.items() if made.methods("01") in said] == [dataset]
        assert ("pooled over folds" in said) == (len(splits) > 1)
        assert [word for word in OF_NULL if OF_NULL[word] in said] == [kind]
        assert ("each refitted in every fold" in said) == (len(splits) > 1)
        assert [known for known, words in OF_DATASET.items() if words in said] == [dataset]
        assert ("bands were scaled" in said) == (estimator.scale is not None)
        assert ("bands were not scaled" in said) == (estimator.scale is None)
        assert ("split between bands by the product measure" in said) == joint
        assert ("the mixture of bands chosen" in said) == (joint and banded)
        expected = {"benjamini1995"} | ({"duprelatour2022"} if banded or joint else set())
        expected |= {"phipson2010"} if kind != "analytic" else set()
        expected |= {"takagi2023"} if name == "takagi2023-released" else set()
        assert {one.key for one in references(content)} == expected
        assert {key for part in content.methods.values() for key in cited_keys(part)} == expected
        assert all(
            f"{one.names}, {one.year}" in said or f"{one.names} ({one.year})" in said for one in references(content)
        )
        assert "@" not in said
        assert all(re.fullmatch(r"[A-Z0-9z].*[^ ][.]", one) and "  " not in one for one in sentences(said)), said


def test_each_part_says_the_same_whatever_the_others_are() -> None:
    """So that a sentence on one part cannot be the doing of another."""
    plain_text = set(sentences(text(planned(NULLS_MADE["analytic"], joint=False))))
    released = set(
        sentences(text(planned(NULLS_MADE["analytic"], joint=False), estimator={"name": "takagi2023-released"}))
    )
    far = set(sentences(text(planned(NULLS_MADE["analytic"], joint=False), splits=SPLITS["far"])))
    assert not any("scale" in one for one in released - plain_text if "not scaled" not in one)
    assert all(re.search("fitted by|centred|code that was released", one) for one in released ^ plain_text)
    assert len(far ^ plain_text) == 2
    assert all("held-out stimuli" in one for one in far ^ plain_text)


def test_a_released_preset_that_does_not_scale_does_not_say_that_it_does() -> None:
    said = text(planned(NULLS_MADE["analytic"], joint=False), estimator={"name": "takagi2023-released"})
    assert "bands were not scaled" in said
    assert "scaled to" not in said
    assert "without an intercept" in said
    assert "the code that was released with Takagi and Nishimoto (2023)" in said


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("correction", PROCEDURES)
def test_the_text_names_and_cites_the_correction_and_its_family(correction: str, family: str) -> None:
    criterion = Criterion(correction=correction, family=family, q=0.1)
    content = content_of(planned(NULLS_MADE["analytic"], joint=False), criterion=criterion)
    cited = {"bh": "benjamini1995", "by": "benjamini2001", "storey": "storey2004"}
    expected = {cited[correction], "duprelatour2022"} | ({"benjamini2014"} if family == "hierarchical" else set())
    assert {one.key for one in references(content)} == expected
    assert "at q = 0.1" in " ".join(methods(content))
    assert set(CORRECTED) == set(PROCEDURES)


EXTRACTED = {
    "pixels": ({"bands": ["pixels", "contrast", "gabor", "colour"]}, {"peli1990", "adelson1985", "oliva2001"}),
    "categories": ({"words": ["cat", "dog"]}, set()),
    "clip": ({}, {"radford2021"}),
    "ldm": ({"model": "phantom"}, {"rombach2022", "takagi2023", "song2021"}),
}


@pytest.mark.parametrize("name", EXTRACTED)
def test_extractors_write_of_the_bands_that_they_give_and_of_no_others(name: str) -> None:
    arguments, keys = EXTRACTED[name]
    # What was made elsewhere is tested in `test_folder_kinds`.
    assert set(EXTRACTED) == set(extractors.SHELF.where) - {"precomputed"}
    if name in ("clip", "ldm"):
        pytest.importorskip("torch")
    extractor = extractors.make(name, **arguments)
    said = sentences_of("extractor", MethodsPart(extractor, name, arguments), bands=[]).text
    assert set(cited_keys(said)) == keys
    for band in extractor.bands:
        one = extractor.methods([band])
        assert set(cited_keys(one)) <= keys
        assert len(one) < len(said) or len(extractor.bands) == 1
    if name == "ldm":
        assert "z_c" not in extractor.methods(["c"])
        assert "song2021" not in cited_keys(extractor.methods(["z", "c"]))
        assert (
            "100 % of the steps at a strength of 20, 40 or 60 %; 25, 50 or 100 % of the steps at a strength of 80 %."
            in said
        )


def test_routes_are_written_by_their_reconstructors_and_one_that_writes_nothing_is_named() -> None:
    class Drawing:
        """A reconstructor that writes nothing of itself."""

        routes: ClassVar = {"sketch": ("z",)}

    theirs, baseline = Drawing(), reconstructors.make("retrieval", bands=["z", "c"])
    parts = [MethodsPart(theirs, "drawing", {"pen": 2}), MethodsPart(baseline, "retrieval", {})]
    said, _ = plain(of_routes({"sketch": theirs, "retrieval": baseline}, parts))
    assert said["drawing"].startswith("The reconstructor was drawing (pen: 2), called from latentcortex")
    assert said["drawing"].endswith("it gives no description of what it does.")
    assert "whose z and c correlated best" in said["retrieval"]
    assert "retrieval" not in plain(of_routes({"sketch": theirs}, parts))[0]
    pytest.importorskip("torch")
    ldm = reconstructors.make("ldm", model="phantom", strength=60, guidance=3.0, n_samples=2)
    whole, only_z = (
        plain(of_routes(dict.fromkeys(routes, ldm), [MethodsPart(ldm, "ldm", {})]))[0]["ldm"] for routes in ("zzc", "z")
    )
    assert "For z alone" in only_z
    assert "guidance" not in only_z
    assert cited_keys(only_z) == ["rombach2022"]
    assert whole != only_z


def test_a_part_that_cites_what_nobody_knows_or_writes_no_text_is_refused() -> None:
    class Cites:
        references = ""

        def methods(self) -> Any:
            return "As @nobody1999 did."

    class Knows(Cites):
        references = "@book{nobody1999,\n  author = {Nobody, N.},\n  year = {1999},\n  title = {{Of nothing}},\n}\n"

    class Counts(Cites):
        def methods(self) -> Any:
            return 3

    with pytest.raises(InputError, match="extractor 'theirs' cites nobody1999, of which no reference is given"):
        sentences_of("extractor", MethodsPart(Cites(), "theirs", {}))
    with pytest.raises(InputError, match="`methods` and `references` of dataset 'theirs' must be text; got 3"):
        sentences_of("dataset", MethodsPart(Counts(), "theirs", {}))
    known = sentences_of("extractor", MethodsPart(Knows(), "theirs", {}))
    (work,) = read_bibtex(known.references).values()
    assert with_citations(known.text, {work.key: work}) == "As Nobody (1999) did."
    with pytest.raises(InputError, match="BibTeX entry 'x2000' has no author, title"):
        read_bibtex("@misc{x2000,\n  year = {2000},\n}\n")


def test_all_literature_is_whole_and_each_entry_is_cited_by_some_part() -> None:
    package = Path(estimators.__file__).parents[1]
    sources = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    for key, work in literature().items():
        assert work.doi or (key in ("gaffke2005", "mood1971") and work.volume and work.pages)
        assert work.pages or "arXiv" in work.doi
        assert str(work.year) in key
        assert f"@{key}" in sources or f'"{key}"' in sources, key
        assert read_bibtex(work.bibtex) == {key: work}


def test_every_way_to_split_a_score_is_written_of_where_it_was_done_and_nowhere_else() -> None:
    words = {
        "shareR2": "by the product measure",
        "uniqueR2": "The unique share of a band",
        "shapleyR2": "The Shapley share of a band",
        "commonR2": "Commonality analysis",
    }
    assert set(words) == set(SHARES)
    for statistic in words:
        about, values = {"analysis": "latents", "model": "a+b", "unit": ""}, np.zeros(12, np.float32)
        columns = [
            (values, {**about, "band": "", "statistic": "r"}),
            (values, {**about, "band": "a", "statistic": statistic}),
        ]
        said = text(Maps.build(Unlocated(12), columns))
        assert [one for one in words if words[one] in said] == [statistic]


@pytest.mark.parametrize("n_refits", [0, 20])
@pytest.mark.parametrize("share", ["gain", "freedman-lane"])
def test_the_text_says_by_which_test_unique_shares_were_tested(share: str, n_refits: int) -> None:
    about, values = {"analysis": "latents", "model": "a+b", "band": "a", "unit": ""}, np.zeros(12, np.float32)
    columns = [
        (values, {**about, "statistic": "uniqueR2"}),
        (values, {**about, "statistic": "uniqueP", "n_refits": n_refits}),
    ]
    columns.append((values, {**about, "band": "", "statistic": "r"}))
    content = content_of(Maps.build(Unlocated(12), columns), criterion=Criterion(share=share))
    said, gain = " ".join(methods(content)), share == "gain"
    assert ("a linear function of the other bands plus noise" in said) != gain
    assert ("does not help to predict" in said) == gain
    assert ("20 fits to random halves of the training stimuli" in said) == (gain and n_refits > 0)
    assert ("which holds for these fitted models only" in said) == (gain and n_refits == 0)
    cited = {one.key for one in references(content)} - {"duprelatour2022"}
    assert cited == {"berger1982"} | ({"freedman1983"} if not gain else {"shao1989"} if n_refits else set())
