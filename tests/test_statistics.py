"""What the registry says of a statistic is what files, tables and figures do with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import latentcortex as lc
from latentcortex import statistics
from latentcortex.encoding import SHARES
from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.maps.naming import stem_of
from latentcortex.statistics import Statistic

SOURCE = Path(lc.__file__).parent


@pytest.fixture
def registry() -> Iterator[dict[str, Statistic]]:
    """The registry, which is as before afterwards."""
    before = dict(statistics._REGISTERED)
    yield statistics._REGISTERED
    statistics._REGISTERED.clear()
    statistics._REGISTERED.update(before)


def one_column(statistic: str, band: str = "z", **more: object) -> Maps:
    facts = {"analysis": "a", "model": "z+c", "band": band, "statistic": statistic, "unit": ""}
    values = np.linspace(-2, 1, lc.Surface("fsaverage5").n_voxels)
    return Maps.build(lc.Surface("fsaverage5"), [(values, {**facts, **more})])


def test_p_q_and_mask_of_every_test_are_statistics_of_that_test() -> None:
    for statistic in statistics.registered():
        if statistic.significance is not None:
            p, q, mask = (statistics.named(name) for name in statistic.significance.names)
            assert (p.unit, q.unit, mask.unit) == ("probability", "rate", "0 or 1"), statistic.name
            assert {one.significance for one in (p, q, mask)} == {statistic.significance}
            assert mask.kind == "yes or no"


def test_every_statistic_has_a_unit_a_title_and_a_sentence() -> None:
    for statistic in statistics.registered():
        assert statistic.unit, statistic.name
        assert statistic.title, statistic.name
        assert len(statistic.description) > 15, statistic.name


def test_a_fraction_is_of_yes_and_no_and_only_numbers_have_means() -> None:
    for statistic in statistics.registered():
        if statistic.by_region:
            assert (statistic.by_region == "fraction") == (statistic.kind == "yes or no"), statistic.name
        if statistic.relative:
            expected = "correlation" if statistic.unit == "correlation" else "variance"
            assert statistic.relative == expected, statistic.name


def test_a_number_after_a_name_is_the_number_of_stimuli_of_that_statistic_only() -> None:
    assert statistics.named("uniqueR2N240") is statistics.UNIQUE_AT_N
    assert statistics.UNIQUE_AT_N.numbered_facts(240) == {"statistic": "uniqueR2N240", "unit": "fraction of variance"}
    assert statistics.named("r2") is statistics.R2
    assert statistics.named("shareR24") == Statistic("shareR24")


def test_names_that_files_cannot_have_or_another_statistic_has_are_refused(registry: dict[str, Statistic]) -> None:
    for name in ("rank-r", "", "2r", "größe"):
        with pytest.raises(InputError, match=r"expected letters and digits"):
            statistics.add(Statistic(name))
    with pytest.raises(InputError, match=r"There is a statistic 'r' already: Pearson"):
        statistics.add(replace(statistics.R, unit="percent"))
    with pytest.raises(InputError, match=r"There is a statistic 'uniqueR2N7' already"):
        statistics.add(Statistic("uniqueR2N7", unit="percent"))
    assert statistics.add(replace(statistics.R)) is statistics.R


def test_a_statistic_that_nobody_registered_has_its_name_in_maps_and_no_mean_by_region() -> None:
    of_others = statistics.named("somebodysOwn")
    assert (of_others.description, of_others.by_region, of_others.kind) == ("", "", "number")
    assert "somebodysOwn" in stem_of({"analysis": "a", "model": "z", "band": "z", "statistic": "somebodysOwn"})


def test_the_scale_of_a_difference_is_as_far_below_as_above_0_and_of_a_ceiling_0_to_1() -> None:
    assert one_column("differenceR2").plot(statistic="differenceR2").axes[-1].get_xlim() == pytest.approx((-2, 2))
    values = np.array([np.nan, -0.5, 0.25])
    assert statistics.DIFFERENCE.scale(values) == (-0.5, 0.5)
    assert statistics.DIFFERENCE.scale(np.full(3, np.nan)) is None
    assert statistics.R.scale(values) is None
    assert statistics.CEILING.scale(values) == (0, 1)


def test_what_was_never_tested_cannot_be_drawn_where_it_is_significant() -> None:
    with pytest.raises(InputError, match=r"Nothing says where ceiling is significant: it is not tested"):
        one_column("ceiling").plot(statistic="ceiling", significant=True)


def test_every_share_says_what_its_columns_are() -> None:
    bands = ["z", "c", "zc"]
    named = {name: [(one["statistic"], one["band"]) for one in share.facts(bands)] for name, share in SHARES.items()}
    assert named["unique"] == [("uniqueR2", band) for band in bands]
    assert named["product"] == [(name, band) for name in ("shareR2", "shareR") for band in bands]
    assert named["common"] == [("commonR2", some) for some in ("z+c", "z+zc", "c+zc", "z+c+zc")]
    for share in SHARES.values():
        assert all(statistics.named(one.name) is one for one in share.statistics)


def test_the_name_of_a_share_stands_in_the_registry_alone() -> None:
    sources = {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    for name in ("shareR2", "uniqueR2", "shapleyR2", "commonR2", "excessR2", "differenceR2"):
        assert [file for file, text in sources.items() if f'"{name}' in text] == ["statistics.py"], name
