"""A gallery: every kind of figure, from a small simulated participant on fsaverage5, as files for print.

    python 08_figures.py [FOLDER]      writes into FOLDER, by default gallery/

Nothing is downloaded and no model is run: features are random numbers, and regions of the phantom's atlas respond to
one or the other band, so that every map has something to show. 180 mm are the page of a journal, 85 mm a column.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from nilearn.datasets import load_fsaverage

import latentcortex as lc
from latentcortex import inference, plotting

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery")
N_TRAIN, N_TEST, N_DIMS = 150, 120, 16
STRENGTHS, STEPS = (20, 40, 60, 80), (25, 50, 100)

# --- a participant: regions see z, c or what denoising has made of both ---------------------------------------------
rng = np.random.default_rng(8)
atlas = lc.Atlas.find("phantom", "fsaverage5")
mesh = load_fsaverage("fsaverage5")["white_matter"]
places = np.concatenate([mesh.parts[side].coordinates for side in ("left", "right")])
surface = lc.Surface("fsaverage5", np.flatnonzero((places[:, 1] < -30) | (atlas.labels > 0)))
places = places[surface.vertices]
regions = np.array([atlas.names.get(label, "") for label in atlas.labels[surface.vertices]])
ids = [f"image{i:03d}" for i in range(N_TRAIN + N_TEST)]
z, c = rng.standard_normal((2, len(ids), N_DIMS))


def denoised(strength: int, step: int) -> np.ndarray:
    """Mix z and c: the more noise and the more steps, the more of c."""
    amount = strength / 100 * np.sqrt(step / 100)
    mixed = np.sqrt(1 - amount**2) * z + amount * c
    return mixed + 0.2 * np.random.default_rng([strength, step]).standard_normal(z.shape)


zc = {f"zc_strength-{s}_step-{k}": denoised(s, k) for s, k in [*((s, 100) for s in STRENGTHS), (80, 25), (80, 50)]}
LATENTS = ("z", "c", "zc_strength-80_step-100")
features = lc.Features.from_arrays(ids, {"z": z, "c": c, **zc})

# From the back of the head to the front, z gives way to c; parietal voxels are noisy, and outside of regions is noise.
angle = np.pi / 2 * np.clip((places[:, 1] + 95) / 45, 0, 1)
signal = z @ rng.standard_normal((N_DIMS, len(regions))) * np.cos(angle)
signal += c @ rng.standard_normal((N_DIMS, len(regions))) * np.sin(angle)
strength = np.where(regions == "parietal", 0.3, 0.9) * (regions != "")
trials = np.tile(signal / signal.std(0) * strength, (2, 1)) + 1.2 * rng.standard_normal((2 * len(ids), len(regions)))
rows = {"stimulus": ids * 2, "session": ["01"] * len(ids) + ["02"] * len(ids), "run": ["01"] * len(ids) * 2}
responses = lc.Responses.single_trials(trials.astype(np.float32), surface, **rows)
train, test = responses.split(test_ids=ids[N_TRAIN:])

# --- models and their maps ----------------------------------------------------------------------------------------
estimator = lc.estimators.make("banded_ridge", seed=0, alphas=list(np.logspace(-4, 4, 9)))
encoders: dict[str, lc.Encoder] = {}


def fitted(analysis: str, *bands: str) -> lc.Maps:
    """Fit and score one model."""
    encoder = lc.Encoder(estimator, analysis=analysis).fit(features.select_bands(bands), train)
    encoders["+".join(bands)] = encoder
    return encoder.score(features.select_bands(bands), test, identifiability=False)


latents = {band: fitted("latents", band) for band in LATENTS}
joint = {band: fitted("joint", "z", band) for band in zc}

PAGE, COLUMN = plotting.Style(width_mm=180), plotting.Style(width_mm=85)
SHORT = {"z": "z", "c": "c", "zc_strength-80_step-100": "z_c"}


def on_mesh(maps: lc.Maps, statistic: str, band: str = "") -> np.ndarray:
    """Lay a statistic of the significant voxels onto all vertices."""
    named = {"statistic": statistic, **({"band": band} if band else {})}
    return surface.on_mesh(np.where(maps.values(statistic="mask") == 1, maps.values(**named), np.nan))


def write(name: str, figure: Figure) -> None:
    """Write a figure into the gallery."""
    plotting.save(figure, OUT / name)
    millimetres = figure.get_figwidth() * 25.4
    print(f"{OUT / name}: {millimetres:.0f} mm wide, letters of {plotting.smallest_text(figure):.1f} pt and more")


OUT.mkdir(parents=True, exist_ok=True)
r = {SHORT[band]: on_mesh(maps, "r") for band, maps in latents.items()}
panels = [plotting.Panel(name, values) for name, values in r.items()]
write(
    "accuracy.png",
    plotting.draw(plotting.Scores(panels, label="prediction accuracy r"), plotting.Flat(atlas), style=PAGE),
)
write(
    "accuracy_inflated.png",
    plotting.draw(plotting.Scores(panels[:1], label="prediction accuracy r"), plotting.Inflated(atlas), style=PAGE),
)
write(
    "winner.png",
    plotting.draw(
        plotting.Winner([plotting.Panel("", list(r.values()))], list(r), label="highest r"),
        plotting.Flat(atlas),
        style=COLUMN,
    ),
)
write(
    "rgb.png",
    plotting.draw(
        plotting.RedGreenBlue([plotting.Panel("", list(r.values()))], list(r), label="prediction accuracy r"),
        plotting.Flat(atlas),
        style=COLUMN,
    ),
)

levels = [f"zc_strength-{s}_step-100" for s in STRENGTHS]
shares = [
    plotting.Panel(f"strength {s} %", (on_mesh(joint[b], "shareR2", "z"), on_mesh(joint[b], "shareR2", b)))
    for s, b in zip(STRENGTHS, levels, strict=True)
]
write("shares.png", plotting.draw(plotting.Shares(shares), plotting.Flat(atlas), style=PAGE))

# --- had it been measured in a volume: a voxel of 3 mm has the mean of the vertices that it holds -------------------
affine = np.array([[3.0, 0, 0, -81], [0, 3, 0, -120], [0, 0, 3, -60], [0, 0, 0, 1]])
grid = lc.Volume(np.ones((55, 66, 50), dtype=bool), affine, "MNI152NLin2009cAsym", "fsaverage5")
holds = grid.votes.T  # how often each voxel is met on the way through cortex at each vertex
measured = holds @ np.isin(np.arange(grid.votes.shape[0]), surface.vertices).astype(float) > 0
volume = grid.select_voxels(np.flatnonzero(measured))
in_voxels = {}
for name, values in r.items():
    n_known = (holds @ np.isfinite(values).astype(float))[measured]
    total = (holds @ np.nan_to_num(values))[measured]
    in_voxels[name] = np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan)
in_volume = [plotting.Panel(name, values, volume) for name, values in in_voxels.items()]
write(
    "slices.png",
    plotting.draw(plotting.Scores(in_volume, label="prediction accuracy r"), plotting.Slices(), style=PAGE),
)
write(
    "glass_brain.png",
    plotting.draw(plotting.Scores(in_volume[1:2], label="prediction accuracy r"), plotting.Glass(), style=PAGE),
)

# --- regions: shares across strengths, and over strengths and steps -------------------------------------------------
table = pd.concat(
    maps.find_columns(statistic="shareR2").summarise(list(atlas.labels[surface.vertices]), atlas.names)
    for maps in joint.values()
)
profile = table[table["model"].isin([f"z+{band}" for band in levels])].copy()
profile["x"] = profile["model"].str.extract(r"strength-(\d+)").astype(float)
profile["series"] = np.where(profile["band"] == "z", "z", "z_c")
profile = profile.rename(columns={"mean": "y"}).assign(low=np.nan, high=np.nan)
words = {"x_label": "noise strength (%)", "y_label": "share of variance (R²)"}
write("profiles.png", plotting.roi_profiles(profile, **words, style=PAGE))

cells = table[table["band"] != "z"].rename(columns={"mean": "value"})
cells["y"] = cells["band"].str.extract(r"strength-(\d+)").astype(float)
cells["x"] = cells["band"].str.extract(r"step-(\d+)").astype(float)
words = {"x_label": "denoising step (%)", "y_label": "noise strength (%)", "label": "share of z_c (R²)"}
write("strength_by_step.png", plotting.region_grids(cells, **words, style=PAGE))

# --- two models against each other, with the paired test -----------------------------------------------------------
held_out = {band: encoders[band].predict_held_out(features.select_bands([band]), test) for band in ("z", "c")}
p = inference.paired_difference_p(
    held_out["z"].y, held_out["z"].yhat, held_out["c"].yhat, n_permutations=499, seed=0
)  # fmt: skip
found = inference.fdr(p, q=0.05).rejected
difference = surface.on_mesh(held_out["z"].r - held_out["c"].r)
mask = surface.on_mesh(found.astype(float)) == 1
figure = plotting.draw(
    plotting.Differences([plotting.Panel("z − c", difference)], [mask]), plotting.Flat(atlas), style=COLUMN
)
write("difference.png", figure)

# --- how alike maps are, with intervals that know how smooth they are ------------------------------------------------
kept = np.stack([joint[band].values(statistic="mask") == 1 for band in levels]).any(0)
similar = {
    title: inference.map_similarity(
        np.stack([joint[band].values(statistic=of, band=band if named else "")[kept] for band in levels]),
        surface.places()[kept],
        seed=0,
    )
    for title, of, named in (("accuracy of z with z_c", "r", False), ("share of z_c", "shareR2", True))
}
names = [f"{s} %" for s in STRENGTHS]
write("similarity.png", plotting.similarity_matrices(similar, names, label="noise strength", style=PAGE))

# --- one voxel, and one map in axes of one's own -------------------------------------------------------------------
best = int(np.nanargmax(joint[levels[-1]].values(statistic="r")))
encoder = encoders[f"z+{levels[-1]}"]


def picture(name: str) -> np.ndarray:
    """Make an image that only its id decides."""
    tones = np.random.default_rng(list(name.encode())).integers(60, 256, (4, 4, 3))
    return np.kron(tones, np.ones((16, 16, 1))).astype(np.uint8)


stimuli = lc.Stimuli(pd.DataFrame({"captions": [()] * len(ids)}, index=pd.Index(ids)), picture)
bands = features.select_bands(["z", levels[-1]])
write("voxel.png", lc.inspect_voxel(encoder, bands, test, best, stimuli=stimuli, atlas=atlas, style=PAGE))

mine = Figure(figsize=(85 / 25.4, 60 / 25.4))
latents["c"].plot(ax=mine.add_axes((0.02, 0.2, 0.96, 0.7)), statistic="r", significant=True, style=COLUMN)
write("own_axes.pdf", mine)
scores = latents["z"].to_dataframe().xs("r", axis=1, level="statistic")
print(scores.groupby(level="hemisphere").mean().round(3).to_string())
