"""Maps -> what a paper needs: BIDS derivatives, figures, an ROI table, a methods paragraph and one page."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
import pandas as pd

import latentcortex
from latentcortex import _files, plotting
from latentcortex._arrays import FloatArray
from latentcortex.errors import InputError
from latentcortex.features import Band
from latentcortex.maps import Maps, short
from latentcortex.responses import Responses
from latentcortex.space import Atlas, Surface
from latentcortex.stimuli import Stimuli

TITLES: Final = {
    "ceiling": "How much any model could explain",
    "latents": "Which latent explains which part of cortex",
    "noise-levels": "Shares of z and z_c, from low to high noise",
    "denoising-steps": "Shares of z and z_c, from early to late denoising",
    "unet-layers": "Preferred U-Net layer, step by step",
    "unet-partition": "Shares of the U-Net's layers, fitted jointly",
}

LOWEST_CEILING: Final = 0.1
"""Noise ceiling below which a voxel is not drawn."""


@dataclass(frozen=True, eq=False)
class Content:
    """What a report is made from.

    Parameters
    ----------
    participant : str
    maps : Maps
        All columns of the participant.
    atlas : Atlas, optional
    facts : dict
        Numbers of the data: `n_trials`, `n_sessions`, `n_train`, `n_test`, `n_voxels`, `n_valid`.
    settings : dict
        The study's.
    made_by : dict
        What made the features.
    log : Path
        JSON lines with what was altered or excluded.
    """

    participant: str
    maps: Maps
    atlas: Atlas | None
    facts: Mapping[str, Any]
    settings: Mapping[str, Any]
    made_by: Mapping[str, Any]
    log: Path

    @property
    def rois(self) -> plotting.Rois | None:
        """The regions as figures draw them."""
        return plotting.Rois(self.atlas.labels, self.atlas.names) if self.atlas else None

    def on_mesh(self, values: FloatArray) -> FloatArray:
        """Lay values (n_voxels,) onto the mesh."""
        if not isinstance(self.maps.space, Surface):
            raise InputError("Maps of voxels without a known position cannot be drawn on cortex.")
        return self.maps.space.on_mesh(values)


@dataclass(frozen=True)
class Figure:
    """One picture of the report.

    Parameters
    ----------
    name : str
        Of its file.
    caption : str
        What it shows, also for those who cannot see it.
    draw : callable
        Draws it.
    """

    name: str
    caption: str
    draw: Callable[[], Any]


def facts_of(maps: Maps, responses: Responses, stimuli: Stimuli) -> dict[str, Any]:
    """Count what the report states of the data; valid voxels are those that have a map."""
    fitted = np.isfinite(maps.find(statistic="r").data).any(axis=1)
    shown = stimuli.select(responses.ids).table
    split = shown["split"] if "split" in shown.columns else pd.Series([""] * len(shown))
    return {
        "n_trials": len(responses.rows),
        "n_sessions": responses.rows["session"].nunique(),
        "n_train": int((split == "train").sum()),
        "n_test": int((split == "test").sum()),
        "n_voxels": responses.space.n_voxels,
        "n_valid": int(fitted.sum()),
    }


# Figures


def figures(content: Content) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of every analysis that the maps hold, with the name of the analysis."""
    there = list(dict.fromkeys(content.maps.columns["analysis"]))
    for name in there:
        own = set(content.maps.find(analysis=name).columns["statistic"])
        maker, needed = _ON_SURFACE.get(name, (_histograms, "r"))
        drawable = isinstance(content.maps.space, Surface) and needed in own
        for figure in (maker if drawable else _histograms)(content, name):
            yield name, figure


def significant(maps: Maps, values: FloatArray, *, analysis: str, model: str) -> FloatArray:
    """Keep values where the model's own mask says so; nan elsewhere."""
    mask = maps.values(analysis=analysis, model=model, statistic="mask")
    return np.asarray(np.where(mask == 1, values, np.nan), dtype=np.float32)


def models(maps: Maps, analysis: str) -> list[str]:
    """List the models of an analysis in their order."""
    own = maps.find(analysis=analysis)
    return list(dict.fromkeys(own.find(statistic="r").columns["model"]))


def title_of(band: str) -> str:
    """Say a band's name in words.

    Examples
    --------
    >>> title_of("zc_strength-80_step-100")
    'z_c, strength 80 %'
    >>> title_of("unet_layer-mid_strength-80_step-50")
    'mid, step 50 %'
    """
    parsed = Band.parse(band)
    if parsed.kind == "zc":
        late = "" if parsed.entities["step"] == "100" else f", step {parsed.entities['step']} %"
        return f"z_c, strength {parsed.entities['strength']} %{late}"
    if parsed.kind == "unet":
        return f"{parsed.entities['layer']}, step {parsed.entities['step']} %"
    return band


def _ceiling(content: Content, analysis: str) -> Iterator[Figure]:
    values = content.maps.values(statistic="ceiling")
    shown = np.where(values >= LOWEST_CEILING, values, np.nan)
    panel = plotting.Panel("noise ceiling", content.on_mesh(shown))
    yield Figure(
        "ceiling",
        "Noise ceiling of the averaged test responses: the fraction of variance that any model could explain. "
        f"Voxels below {LOWEST_CEILING:g} are not coloured here; the map keeps them.",
        lambda: plotting.flatmaps([panel], rois=content.rois, label="explainable variance", limits=(0, 1)),
    )
    if (content.maps.columns["analysis"] == "latents").any():
        names = models(content.maps, "latents")
        best = np.stack([content.maps.values(analysis="latents", model=m, statistic="r2") for m in names])
        score = np.where(np.isnan(best).all(0), np.nan, np.nan_to_num(best, nan=-np.inf).max(0))
        yield Figure(
            "prediction-against-ceiling",
            "Variance explained by the best single latent against the noise ceiling; the line is equality.",
            lambda: plotting.prediction_against_ceiling(score, values, label="R², best latent"),
        )


def _accuracy(content: Content, analysis: str) -> Iterator[Figure]:
    maps = content.maps
    panels = []
    for model in models(maps, analysis):
        r = maps.values(analysis=analysis, model=model, statistic="r")
        shown = significant(maps, r, analysis=analysis, model=model)
        panels.append(plotting.Panel(title_of(model), content.on_mesh(shown)))
    q = maps.find(analysis=analysis, statistic="mask").columns["q"].iloc[0]
    about = f"Prediction accuracy (r) of each latent alone; only voxels with q < {q:g} are coloured."
    label = "prediction accuracy r"
    yield Figure("latents-flat", about, lambda: plotting.flatmaps(panels, rois=content.rois, label=label))
    yield Figure(
        "latents-inflated", about[:-1] + ", on inflated cortex.",
        lambda: plotting.inflated(panels, rois=content.rois, label=label),
    )  # fmt: skip


def _shares(content: Content, analysis: str) -> Iterator[Figure]:
    maps, panels = content.maps, []
    for model in models(maps, analysis):
        first, second = (
            content.on_mesh(
                significant(
                    maps,
                    maps.values(analysis=analysis, model=model, band=band, statistic="shareR2"),
                    analysis=analysis,
                    model=model,
                )
            )
            for band in model.split("+")
        )
        step = Band.parse(model.split("+")[1])
        word = f"strength {step.entities['strength']} %"
        if analysis == "denoising-steps":
            word = f"step {step.entities['step']} %"
        panels.append(plotting.SharePanel(word, first, second))
    yield Figure(
        analysis,
        "Product shares of z and z_c in the variance that their joint model explains, where the joint model "
        "is significant. Negative shares are drawn as 0 and kept in the maps.",
        lambda: plotting.share_maps(panels, rois=content.rois, label="share of variance (R²)"),
    )


def _preferences(content: Content, analysis: str) -> Iterator[Figure]:
    found = content.maps.find(analysis=analysis, statistic="preferred")
    layers = str(found.columns["layers"].iloc[0]).split("+")
    panels = []
    for model in found.columns["model"]:
        preferred = content.maps.values(analysis=analysis, model=model, statistic="preferred")
        shown = significant(content.maps, preferred, analysis=analysis, model=model)
        sure = content.maps.values(analysis=analysis, model=model, statistic="confidence")
        title = f"step {model.split('-')[1]} %"
        panels.append(plotting.PreferencePanel(title, content.on_mesh(shown), content.on_mesh(sure)))
    yield Figure(
        "unet-layers",
        "The U-Net layer that predicts each voxel best. Opacity is the fraction of bootstrap draws of test "
        "stimuli in which it wins; it does not carry the uncertainty of the fit.",
        lambda: plotting.preference_maps(panels, layers, rois=content.rois),
    )


def _partition(content: Content, analysis: str) -> Iterator[Figure]:
    maps, panels = content.maps, []
    for model in models(maps, analysis):
        for band in model.split("+"):
            share = maps.values(analysis=analysis, model=model, band=band, statistic="shareR2")
            shown = significant(maps, share, analysis=analysis, model=model)
            panels.append(plotting.Panel(title_of(band), content.on_mesh(shown)))
    n_layers = len(models(maps, analysis)[0].split("+"))
    yield Figure(
        "unet-partition",
        "Product share of each layer in the variance that the joint model of all layers explains, where that "
        "model is significant.",
        lambda: plotting.flatmaps(panels, rois=None, label="share of variance (R²)", n_columns=n_layers),
    )


def _histograms(content: Content, analysis: str) -> Iterator[Figure]:
    for model in models(content.maps, analysis):
        r = content.maps.values(analysis=analysis, model=model, statistic="r")
        found = content.maps.values(analysis=analysis, model=model, statistic="mask") == 1
        # A permutation null belongs to each voxel, and then no one value of r parts the significant from the rest.
        parts = found.any() and np.nanmin(r[found]) > np.nanmax(r[~found], initial=-1)
        threshold = float(r[found].min()) if parts else None
        line = " The line is the smallest significant r." if parts else ""
        yield Figure(
            f"{analysis}-{model.replace('+', '-')}",
            f"Prediction accuracy of {model} over voxels, of which {found.sum():,} are significant.{line}",
            lambda r=r, threshold=threshold: plotting.histogram(r, threshold),  # type: ignore[misc]
        )


_ON_SURFACE: Final[dict[str, tuple[Callable[[Content, str], Iterator[Figure]], str]]] = {
    "ceiling": (_ceiling, "ceiling"),
    "latents": (_accuracy, "r"),
    "noise-levels": (_shares, "shareR2"),
    "denoising-steps": (_shares, "shareR2"),
    "unet-layers": (_preferences, "preferred"),
    "unet-partition": (_partition, "shareR2"),
}
"""How each analysis is drawn on cortex, and the statistic that this needs."""


# Tables


def summary_rows(participant: str, maps: Maps) -> list[dict[str, Any]]:
    """Summarise every model of every analysis, one row each."""
    rows = []
    for facts in maps.find(statistic="mask").columns.to_dict("records"):
        who = {"analysis": facts["analysis"], "model": facts["model"]}
        mask = maps.values(**who, statistic="mask")
        name = "r" if len(maps.find(**who, statistic="r").columns) else "confidence"
        score = maps.values(**who, statistic=name)
        known = score[np.isfinite(score)]
        rows.append(
            {
                "participant": participant,
                "analysis": facts["analysis"],
                "band": facts["model"],
                "statistic": name,
                "n_voxels": len(mask),
                "n_valid": int(np.isfinite(mask).sum()),
                "n_significant": int((mask == 1).sum()),
                "correction": facts["correction"],
                "q": facts["q"],
                "family": facts["family"],
                "score_max": float(known.max()) if len(known) else None,
                "score_median": float(np.median(known)) if len(known) else None,
            }
        )
    return rows


def roi_table(content: Content) -> pd.DataFrame | None:
    """Summarise every column by region, over all valid voxels; None without an atlas."""
    if content.atlas is None or not isinstance(content.maps.space, Surface):
        return None
    labels = content.maps.space.from_mesh(content.atlas.labels)
    wanted = content.maps.columns["statistic"].isin(["r", "r2", "mask", "shareR2", "shareR", "ceiling", "confidence"])
    kept = Maps(content.maps.data[:, wanted], content.maps.columns[wanted].reset_index(drop=True), content.maps.space)
    return kept.summarise([int(label) for label in labels], content.atlas.names)


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """Lay out the mean r and the fraction of significant voxels of each single latent, one row per region."""
    own = table[table["analysis"] == "latents"]
    sizes = own.groupby("roi", sort=False)["n_valid"].first().rename("n valid")
    columns = [sizes]
    for model in dict.fromkeys(own["model"]):
        for statistic, head in (("r", "mean r"), ("mask", "significant")):
            chosen = own[(own["model"] == model) & (own["statistic"] == statistic)].set_index("roi")["mean"]
            columns.append(chosen.rename(f"{title_of(model)}: {head}"))
    return pd.concat(columns, axis=1).reset_index()


# Text


def methods(content: Content) -> list[str]:
    """Write the methods paragraphs; every number comes from the run."""
    facts, settings = content.facts, content.settings
    tests, q = settings["inference"], f"{settings['inference']['q']:g}"
    name = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli"}[tests["correction"]]
    z = {"session": "within sessions", "run": "within runs", "none": ""}[settings["responses"]["zscore"]]
    scored = f"z-scored {z} with the statistics of training rows" if z else "not z-scored"
    first = (
        f"Responses of participant {content.participant} ({facts['n_trials']} trials in {facts['n_sessions']} "
        f"sessions, {facts['n_voxels']} voxels of which {facts['n_valid']} were valid) were {scored}, and repeats "
        "of a stimulus were averaged and weighted by their number."
    )
    made = {key: value for key, value in content.made_by.items() if key not in ("name", "bands", "weights")}
    solver = {"himalaya": "himalaya's random search, called from "}.get(settings["estimator"]["name"], "")
    second = (
        f"Features came from the extractor {content.made_by['name']} ("
        + ", ".join(f"{key}: {value}" for key, value in made.items())
        + "). Feature columns were centred on training stimuli and bands scaled to equal mean kernel diagonal. "
        "Voxel-wise encoding models were fitted by banded ridge regression, with the penalty and the mixture of "
        "bands chosen for each voxel within the training stimuli (Dupré la Tour et al., 2022), as implemented in "
        f"{solver}latentcortex {latentcortex.__version__}."
    )
    n_folds = settings["splits"]["cross_validation"]
    if n_folds:
        third = (
            f"Predictions were pooled over {n_folds} folds that never share an image; significance came from "
            f"{tests['n_permutations']} permutations of stimuli, each refitted in every fold."
        )
    else:
        null = (
            f"{tests['n_permutations']} permutations of test stimuli"
            if tests["null"] == "permutation"
            else "the distribution of correlations of independent Gaussian vectors"
        )
        third = (
            f"Models were fitted on {facts['n_train']} stimuli and scored by the Pearson correlation with averaged "
            f"responses to {facts['n_test']} held-out stimuli; one-sided p-values came from {null}."
        )
    third += f" The false discovery rate was controlled at q = {q} ({name}) for each map over all its valid voxels."
    if (content.maps.columns["statistic"] == "shareR2").any():
        third += " The variance explained by joint models was split between bands by the product measure."
    return [first, second, third]


REFERENCES: Final = (
    "Benjamini, Y., & Hochberg, Y. (1995). Controlling the false discovery rate. Journal of the Royal Statistical "
    "Society B. doi:10.1111/j.2517-6161.1995.tb02031.x",
    "Dupré la Tour, T., Eickenberg, M., Nunez-Elizalde, A. O., & Gallant, J. L. (2022). Feature-space selection with "
    "banded ridge regression. NeuroImage. doi:10.1016/j.neuroimage.2022.119728",
    "Takagi, Y., & Nishimoto, S. (2023). High-resolution image reconstruction with latent diffusion models from "
    "human brain activity. CVPR. doi:10.1109/CVPR52729.2023.01389",
)


# Files


def write_dataset(out: Path, maps: Maps, participant: str) -> None:
    """Write the maps as a BIDS-Derivatives dataset."""
    _files.write_json(
        out / "dataset_description.json",
        {
            "Name": "latentcortex encoding maps",
            "BIDSVersion": "1.10.1",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "latentcortex", "Version": latentcortex.__version__}],
        },
    )
    ignored = (
        "*_statmap.*",
        "*_mask.*",
        "*_rois.tsv",
        "*_truth.tsv",
        "*.html",
        "figures",
        "features",
        "work",
        "logs",
        "study.json",
        "summary.json",
    )
    _files.write_text(out / ".bidsignore", "\n".join(ignored) + "\n")
    _files.write_text(
        out / "README.md",
        "# Encoding maps\n\nMade by latentcortex. Maps are not thresholded; q-values and masks lie beside them, and "
        "each sidecar names its family of tests. Begin with sub-*.html.\n",
    )
    maps.save(out, participant=participant)


def write_table(out: Path, participant: str, name: str, table: pd.DataFrame) -> None:
    """Write one table of a participant, tab-separated."""
    with _files.writing(out / f"sub-{participant}" / f"sub-{participant}_{name}.tsv") as part:
        table.to_csv(part, sep="\t", index=False, na_rep="n/a", float_format="%.5g")


def write(out: Path, content: Content, stages: Sequence[Mapping[str, Any]]) -> Path:
    """Write figures, ROI table and the page of one participant; return the page."""
    sections: dict[str, list[dict[str, str]]] = {}
    for name, figure in figures(content):
        path = out / f"sub-{content.participant}" / "figures" / f"{figure.name}.png"
        plotting.save(figure.draw(), path)
        picture = base64.b64encode(path.read_bytes()).decode()
        sections.setdefault(name, []).append({"caption": figure.caption, "picture": picture})
    table = roi_table(content)
    if table is not None:
        write_table(out, content.participant, "rois", table)
    page = out / f"sub-{content.participant}.html"
    _files.write_text(page, _render(content, sections, table, stages))
    return page


def _render(
    content: Content,
    sections: Mapping[str, Sequence[Mapping[str, str]]],
    table: pd.DataFrame | None,
    stages: Sequence[Mapping[str, Any]],
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    small = compact(table) if table is not None and (table["analysis"] == "latents").any() else None
    return environment.get_template("report.html").render(
        participant=content.participant,
        version=latentcortex.__version__,
        facts=content.facts,
        sections=sections,
        titles=TITLES,
        rows=[row | {"band": short(row["band"])} for row in summary_rows(content.participant, content.maps)],
        rois=small.to_dict("split") if small is not None else None,
        alterations=alterations(content.log),
        methods=methods(content),
        references=REFERENCES,
        settings=json.dumps(content.settings, indent=2, default=str),
        made_by=json.dumps(dict(content.made_by), indent=2, default=str),
        stages=stages,
    )


def alterations(log: Path) -> list[dict[str, Any]]:
    """Read what was altered or excluded, each message once with how often it came."""
    counts: dict[tuple[str, str], int] = {}
    if log.is_file():
        for line in log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            key = (entry["level"], entry["what"])
            counts[key] = counts.get(key, 0) + 1
    return [{"level": level, "what": what, "times": n} for (level, what), n in counts.items()]


def write_summary(out: Path, participant: str, maps: Maps, stages: Sequence[Mapping[str, Any]]) -> None:
    """Write `summary.json`, keeping the rows of other participants."""
    path = out / "summary.json"
    known = _files.read_json(path)["results"] if path.is_file() else []
    others = [row for row in known if row["participant"] != participant]
    _files.write_json(path, {"results": others + summary_rows(participant, maps), "stages": list(stages)})
