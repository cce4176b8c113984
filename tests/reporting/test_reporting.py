"""Tables by region say what the maps say, and LaTeX shows what was written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from _studies import sections

from latentcortex.maps import Maps
from latentcortex.reporting import Content, GroupResults, latex, region_tables, write, write_group
from latentcortex.space import Atlas, Surface, Unlocated

NAN = float("nan")


def table() -> pd.DataFrame:
    """Two regions: a ceiling, the score of z with its test, and a split of z and c."""
    facts = [
        ("ceiling", "", "", "ceiling", 0.5, NAN, NAN),
        ("latents", "z", "z", "r", 0.4, NAN, 0.8),
        ("latents", "z", "z", "r2", 0.1, NAN, NAN),
        ("latents", "z", "z", "mask", 0.75, 0.6, NAN),
        ("both", "z+c", "", "r", 0.5, NAN, NAN),
        ("both", "z+c", "z", "shareR2", 0.2, NAN, 0.4),
        ("both", "z+c", "c", "shareR2", 0.1, NAN, 0.2),
    ]
    rows = [
        {"roi": roi, "analysis": a, "model": m, "band": b, "statistic": s, "n_valid": n, "mean": mean, "bound": bound,
         "normalised": rel, "low": mean - 0.05, "high": mean + 0.05}
        for roi, n in (("V1_left & right", 30), ("PPA", 20))
        for a, m, b, s, mean, bound, rel in facts
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_region_has_a_row_for_each_score_and_share_beside_its_test() -> None:
    tables = region_tables(table())
    assert list(tables) == ["ceiling", "latents", "both"]
    first, second = tables["latents"]
    assert (first.roi, second.roi) == ("V1_left & right", "PPA")
    assert (first.mean_of, first.n_valid, first.mean, first.normalised) == ("z: r", 30, 0.4, 0.8)
    assert (first.significant, first.bound) == (0.75, 0.6)
    assert [row.mean_of for row in tables["both"][:2]] == ["z beside c: share of R²", "c beside z: share of R²"]
    assert np.isnan(tables["both"][0].significant)


def test_latex_has_every_row_and_nothing_unescaped() -> None:
    tables = region_tables(table())
    text = latex(tables, "01")
    assert text.count("\\begin{longtable}") == text.count("\\end{longtable}") == 3
    assert "V1\\_left \\& right & z: r & 30 & 0.400 [0.350, 0.450] & 0.800 & 0.750 & 0.600 \\\\" in text
    body = [line for line in text.splitlines() if not line.startswith(("%", "\\"))]
    assert not [line for line in body if re.search(r"(?<!\\)[_%#]", line)]
    for block in re.findall(r"\\begin\{longtable\}\{(\w+)\}(.*?)\\end", text, re.DOTALL):
        rows = [line for line in block[1].splitlines() if re.search(r"(?<!\\)&", line)]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in rows} == {len(block[0])}


def participant(out: Path, name: str, driven: slice) -> None:
    """Write what a report of one participant leaves: the p of z on all vertices, small in some."""
    space = Surface("fsaverage5")
    p = np.random.default_rng(int(name)).random(space.n_voxels).astype(np.float32)
    p[driven] = 1e-6
    about = {"analysis": "latents", "model": "z", "band": "z", "n_stimuli": 50, "null": "none", "correction": "bh"}
    about |= {"q": 0.05, "family": "all"}
    ends = {"intervals": {"early": [0.2, 0.4]}}
    maps = Maps.build(
        space,
        [
            (1 - p, {**about, "statistic": "r", "unit": "correlation", **ends}),
            (p, {**about, "statistic": "p", "unit": "probability"}),
            (p < 1e-5, {**about, "statistic": "mask", "unit": "0 or 1"}),
        ],
    )
    maps.save(out, participant=name)
    settings = {"report": {"atlas": "phantom"}}
    atlas = Atlas.find("phantom", "fsaverage5")
    kept = (name, maps, atlas, {}, settings, {"name": "arrays"}, out / "log.jsonl")
    Content(*kept, sections=sections()).write(out, [])


def test_a_group_page_says_in_how_many_participants_something_is_found(tmp_path: Path) -> None:
    participant(tmp_path, "01", slice(0, 3000))
    assert write_group(tmp_path) is None  # one participant is no group
    participant(tmp_path, "02", slice(0, 2000))
    participant(tmp_path, "03", slice(0, 2000))
    page = write_group(tmp_path)
    assert page is not None
    group = GroupResults.read(tmp_path)
    assert group.n_significant.loc["latents: z"].to_list() == [3000, 2000, 2000]
    shown = np.isfinite(group.prevalence["z"])
    assert shown[:2000].mean() > 0.99
    assert shown[3000:].mean() < 0.01
    (row,) = group.regions[(group.regions["roi"] == "early") & (group.regions["mean_of"] == "z: r")].to_dict("records")
    assert (row["n"], row["n_above"], row["prevalence"]) == (3, 3, 1.0)
    assert row["lowest"] <= row["mean"] <= row["highest"]
    text = page.read_text()
    assert "3 participants" in text
    assert "3 of 3" in text
    assert 'href="http' not in text


def test_the_confidence_of_a_preferred_layer_stands_in_no_column_of_r(tmp_path: Path) -> None:
    about = {"analysis": "unet-layers", "band": "", "n_stimuli": 9, "unit": "", "correction": "bh", "q": 0.05}
    about |= {"family": "all", "null": "none"}
    columns = []
    for model, score, values in (("z", "r", [0.25, 0.125]), ("layers_step-50", "confidence", [1.0, 0.75])):
        for statistic, column in ((score, values), ("p", [0.01, 0.01]), ("mask", [1, 1])):
            columns.append((np.array(column, dtype=float), {**about, "model": model, "statistic": statistic}))
    settings = {"report": {"atlas": "", "figures": [], "format": "png", "width_mm": 180.0, "mask": "own"}}
    settings |= {"responses": {"zscore": "none"}, "analyses": {"n_dims": 0}, "estimator": {"name": "banded_ridge"}}
    settings |= {"splits": {"cross_validation": 0, "unit": "stimulus", "test": "split", "embedding": ""}}
    settings |= {"inference": {"q": 0.05, "correction": "bh", "family": "map"}}
    facts = {"n_trials": 9, "n_sessions": 1, "n_voxels": 2, "n_valid": 2, "n_train": 5, "n_test": 4}
    content = Content(
        "01", Maps.build(Unlocated(2), columns), None, facts, settings, {"name": "pixels"}, tmp_path / "log"
    )
    text = write(tmp_path, content, []).read_text()
    table = text[text.index("<thead>") : text.index("</table>")]
    heads = re.findall(r"<button[^>]*>([^<]*)</button>", table)
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in table.split("<tr>")[2:]]
    cells = [dict(zip(heads, row, strict=True)) for row in rows]
    assert [row["median r"] for row in cells] == ["0.188", "n/a"]
    assert [row["largest r"] for row in cells] == ["0.250", "n/a"]
    assert [row["median confidence"] for row in cells] == ["n/a", "0.875"]
    for row in table.split("<tr>")[2:]:  # where a narrow screen shows no head, each number says what it is
        assert re.findall(r'<td[^>]*data-label="([^"]*)"', row) == heads[2:]
