"""Measure the bundled phantom model on scenes it was not trained on, and write its model card and pictures.

    python training/phantom_card.py --out build/phantom

Writes `phantom_card.md`, `phantom_card_samples.png` and `phantom_card_reconstructions.png` beside this file,
in about four minutes on one core. `--out` is where `phantom_model.py` left its logs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from phantom_model import POOL, TEXT_LENGTH, TEXT_WIDTH
from phantom_probe import (
    HELD_OUT_STREAM,
    MEASURED,
    PICTURE_STREAM,
    PROBE_RECONSTRUCTIONS,
    PROBE_SCENES,
    Edit,
    Followed,
    Probe,
    Sampler,
    draw_edits,
    draw_noise,
    draw_scenes,
    edit_success,
    following,
    make_probe,
    psnr,
    random_for,
    reconstruct,
)
from PIL import Image

from latentcortex import _files, _ldm
from latentcortex.datasets.phantom import model_folder, scenes
from latentcortex.datasets.phantom.scenes import ATTRIBUTES, Scene

COMMAND: Final = "python training/phantom_card.py --out build/phantom"
DPI: Final = 100
STRENGTHS: Final = (0, 20, 40, 60, 80, 100)
TARGETS: Final = {"scene": 0.95, "colour": 0.95, "size": 0.95, "place": 0.95}
SHAPE_TARGET: Final = 0.9  # of what the VAE's reconstructions allow
TRUE, RECONSTRUCTED = "true drawings", "VAE reconstructions"
VAE_LOG: Final = {"steps": 3500, "batch": 16, "cpu_minutes": 22.4, "psnr": 28.50}
"""What the run that made the bundled VAE printed, for want of its file."""

SHOWN: Final = (
    Scene("desert", "red", "star", "large", "top", "left"),
    Scene("sea", "yellow", "ring", "large", "middle", "centre"),
    Scene("moonscape", "cyan", "triangle", "large", "bottom", "right"),
    Scene("meadow", "purple", "cross", "large", "middle", "left"),
    Scene("city", "orange", "circle", "small", "top", "right"),
    Scene("snow", "green", "square", "small", "middle", "right"),
    Scene("meadow", "pink", "star", "small", "top", "centre"),
    Scene("desert", "blue", "triangle", "small", "bottom", "centre"),
)
SHOWN_EDITS: Final = (
    Edit(Scene("meadow", "red", "circle", "large", "middle", "centre"), "colour", "blue"),
    Edit(Scene("snow", "green", "star", "large", "middle", "right"), "colour", "pink"),
    Edit(Scene("sea", "yellow", "square", "large", "middle", "left"), "shape", "star"),
    Edit(Scene("city", "cyan", "cross", "large", "top", "centre"), "shape", "circle"),
    Edit(Scene("desert", "purple", "ring", "large", "top", "centre"), "scene", "moonscape"),
    Edit(Scene("city", "orange", "triangle", "large", "bottom", "left"), "scene", "sea"),
)


def captions_of(shown: Sequence[Scene]) -> list[str]:
    """Name all attributes of each scene, in both templates by turns."""
    return [scenes.caption(scene, template=i % 2) for i, scene in enumerate(shown)]


# ----------------------------------------------------------------------------------------- measurements


Edited = dict[int, dict[str, float]]
"""Strength -> what the probe was asked for -> how often it read that."""


def measure_edits(probe: Probe, sampler: Sampler, n: int) -> Edited:
    """Edit `n` held-out scenes at each strength."""
    edits, images = draw_edits(n)
    captions, noise = captions_of([edit.after for edit in edits]), draw_noise(n)
    return {
        strength: edit_success(probe, sampler.edit(images, captions, noise, strength), edits) for strength in STRENGTHS
    }


@dataclass(frozen=True)
class Measured:
    """What the card tells of the model."""

    n: int
    n_edits: int
    psnr: float
    following: dict[str, Followed]  # by source of the images
    edits: Edited
    plain_edits: Edited


# ------------------------------------------------------------------------------------------- pictures


def strip(images: np.ndarray, *, size: int = 96, gap: int = 4) -> np.ndarray:
    """Put images side by side, enlarged to `size` pixels, on white."""
    out = np.full((size, len(images) * (size + gap) - gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        enlarged = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
        out[:, i * (size + gap) : i * (size + gap) + size] = np.asarray(enlarged)
    return out


def canvas(width: int, height: int) -> Figure:
    """Make a figure of this many pixels."""
    return plt.figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def place(figure: Figure, picture: np.ndarray, left: int, top: int) -> Axes:
    """Show a picture in its own pixels, `left` and `top` pixels from the figure's upper left corner."""
    width, height = figure.get_size_inches() * DPI
    across, down = picture.shape[1] / width, picture.shape[0] / height
    axes = figure.add_axes((left / width, 1 - top / height - down, across, down))
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    return axes


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def samples_picture(sampler: Sampler, path: Path, n: int = 6) -> None:
    """Draw samples of captions above, and edits across strengths below."""
    captions = [scenes.caption(scene) for scene in SHOWN]
    noise = draw_noise(n * len(SHOWN))
    samples = sampler.sample([text for text in captions for _ in range(n)], noise).reshape(-1, n, 64, 64, 3)
    before = np.stack([scenes.render(e.before, random_for(PICTURE_STREAM, i)) for i, e in enumerate(SHOWN_EDITS)])
    changed = [scenes.caption(edit.after) for edit in SHOWN_EDITS]
    after = [sampler.edit(before, changed, noise[: len(before)], strength) for strength in STRENGTHS[1:]]
    bold = [text.replace(e.word, rf"$\bf{{{e.word}}}$") for text, e in zip(changed, SHOWN_EDITS, strict=True)]
    labels = ["original", *(f"strength {strength} %" for strength in STRENGTHS[1:])]

    figure = canvas(1244, 940)
    two_columns(figure, 0, "Text to image", [strip(row) for row in samples], captions)
    pictures = [strip(row) for row in np.stack([before, *after], 1)]
    for axes in two_columns(figure, 528, "Image to image, with one word of the caption changed", pictures, bold)[-2:]:
        axes.set_xticks((np.arange(n) + 0.5) * pictures[0].shape[1] / n, labels)
    save(figure, path)


def two_columns(
    figure: Figure, top: int, heading: str, pictures: Sequence[np.ndarray], titles: Sequence[str]
) -> list[Axes]:
    """Show pictures with titles in two columns, under a heading."""
    shown = []
    for k, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        left, below = 10 + k % 2 * (picture.shape[1] + 32), top + 56 + k // 2 * (picture.shape[0] + 24)
        shown.append(place(figure, picture, left, below))
        shown[-1].set_title(title, loc="left", fontsize=10, pad=4)
    height = figure.get_size_inches()[1] * DPI
    figure.text(shown[0].get_position().x0, 1 - (top + 10) / height, heading, va="top", weight="bold", fontsize=12)
    return shown


def reconstructions_picture(images: np.ndarray, again: np.ndarray, path: Path, n: int = 12) -> None:
    """Show images above what the VAE makes of them, `n` in a row."""
    figure = canvas(1244, 428)
    for k in range(4):
        kind, shown = ("VAE", again) if k % 2 else ("drawn", images)
        axes = place(figure, strip(shown[k // 2 * n : (k // 2 + 1) * n]), 30, 10 + k * 100 + k // 2 * 12)
        axes.set_ylabel(kind, fontsize=10)
    save(figure, path)


# ----------------------------------------------------------------------------------------------- card


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    return f"{value:.3f}"


def parts_table(model: _ldm.LatentDiffusion, folder: Path) -> str:
    """Count parameters, and size and hash the file, of each part that has weights."""
    parts = {"vae": model.vae, "unet": model.unet, "text_encoder": model.text_encoder}
    rows = []
    for name, part in parts.items():
        (path,) = (folder / name).glob("*.safetensors")
        n_parameters = sum(p.numel() for p in part.parameters())
        size = f"{path.stat().st_size / 1e6:.2f} MB"
        file = f"`{name}/{path.name}`"
        rows.append([type(part).__name__, f"{n_parameters:,}", file, size, f"`{_files.sha256(path)}`"])
    return table(["class", "parameters", "file (fp16)", "size", "sha256"], rows)


def training_table(out: Path) -> str:
    """Tell how long each stage was trained and what it reached, from the logs."""
    vae = json.loads((out / "vae.json").read_text()) if (out / "vae.json").exists() else VAE_LOG
    unet = json.loads((out / "unet.json").read_text())
    ends = {"VAE": (vae, f"PSNR {vae['psnr']:.2f} dB"), "U-Net and text encoder": (unet, f"loss {unet['loss']:.4f}")}
    rows = [
        [stage, f"{log['steps']:,} of {log['batch']}", f"{log['cpu_minutes']:.0f}", reached]
        for stage, (log, reached) in ends.items()
    ]
    return table(["stage", "steps", "CPU minutes (one thread)", "at the end, on training batches"], rows)


def following_table(found: dict[str, Followed], measure: str) -> str:
    rows = [[source, *(number(float(of[measure][name].mean())) for name in MEASURED)] for source, of in found.items()]
    return table(["images", *MEASURED], rows)


def targets_table(found: dict[str, Followed]) -> str:
    """Compare two-alternative accuracies of the samples with what the model was meant to reach."""
    means = {
        source: {name: float(values.mean()) for name, values in of["two_alternative"].items()}
        for source, of in found.items()
    }
    targets = {**TARGETS, "shape": SHAPE_TARGET * means[RECONSTRUCTED]["shape"]}
    samples = [source for source in found if source not in (TRUE, RECONSTRUCTED)]
    rows = [
        [name, number(target), *(f"{number(means[s][name])}, {verdict(means[s][name] >= target)}" for s in samples)]
        for name, target in targets.items()
    ]
    return table(["attribute", "at least", *samples], rows)


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def edits_table(found: Measured, sampler: Sampler) -> str:
    """Show edits with guidance by attribute, those without only in sum."""
    guided, plain = found.edits, found.plain_edits
    rows = [
        [
            f"{strength} %" if strength else "0 (VAE alone)",
            number(sampler.signal(strength)),
            *(number(guided[strength][name]) for name in ("kept", "edited", *ATTRIBUTES)),
            *(number(plain[strength][name]) for name in ("kept", "edited")),
        ]
        for strength in STRENGTHS
    ]
    without = ["kept, guidance 1", "edited, guidance 1"]
    return table(["strength", "signal left", "kept", "edited", *ATTRIBUTES, *without], rows)


CARD: Final = """\
# Model card: the phantom's latent diffusion model

A small latent diffusion model of the same classes as Stable Diffusion (AutoencoderKL, UNet2DConditionModel
with cross-attention, CLIPTextModel and its tokenizer, DDIMScheduler), trained from scratch on drawn scenes
with captions. It is bundled with latentcortex so that `latentcortex demo`, the simulated participant and the
tests have a real model to work on, offline. This card is written by
`{command}`.

![Samples of the model, and edits across strengths](phantom_card_samples.png)

The captions were chosen to cover scenes, colours and shapes; the pictures are the first that the seed gave.
{n_steps} DDIM steps, guidance {guidance:g}.

## Data

{pool:,} images of 64 x 64 pixels, drawn by `latentcortex.datasets.phantom.scenes`: one object before one
background, with five captions each. There is no photograph, no person and nothing from the internet in it.
A caption can name six attributes and leaves out each with probability .15 (row and column together):

{words}

What no caption names (exact position, rotation, horizon, light, tint, texture) only the image knows.
There are {n_kinds:,} combinations of the six attributes, and all but about {unseen:.0%} of them are expected
among the training scenes: *held out* below means newly drawn images, not new combinations of words.

## Parts

{parts}

The folder has {megabytes:.1f} MB. Images become latents of 4 x 8 x 8, captions embeddings of {length} x {width}.
All numbers below are from the fp16 files, computed in float32.

## Schedule and training

A cosine noise schedule (`squaredcos_cap_v2`, 1,000 steps, v-prediction): Stable Diffusion's own destroys an
8 x 8 latent, which has little redundancy, too early. The VAE was trained first (absolute and squared error,
and a KL term of small weight), then the U-Net and the text encoder together (squared error of v): 12 % of
the captions were empty, and every fourth step was conditioned on the mean over five captions, as features
are. AdamW with warm-up and cosine decay; the U-Net's and the text encoder's weights are a moving average.

{training}

## Reconstruction

PSNR of the VAE on {n} held-out images: **{psnr:.1f} dB**.

![Held-out scenes and their reconstructions](phantom_card_reconstructions.png)

## Caption following

{n} held-out scenes, for each a caption that names all attributes, and one sample of it. A small convolutional
network (`phantom_probe.py`), trained on {probe_scenes:,} other drawings and on reconstructions of
{probe_reconstructions:,} of them, reads the samples. What it reads from the true drawings of the same scenes,
and from the VAE's reconstructions of these, shows what the probe and the VAE allow. *Place* is row and column
together. Standard errors are at most {error:.3f}. Guidance 1 is none.

Two alternatives: how often the probe prefers the caption's word to another word, averaged over the other
words of the attribute (chance .5):

{two_alternative}

All alternatives: how often the caption's word is the probe's first choice (chance is one by the number of
words):

{best_word}

What the model was meant to reach, in two alternatives (for shape {shape_target:g} of what the VAE's
reconstructions allow):

{targets}

## Image to image

{n_edits} held-out scenes, each with a caption that differs from it in one attribute (each attribute equally
often). The scene's latent is noised to a strength and denoised with the caption. *Edited*: the probe's first
choice is the new word, over all scenes, then by the attribute changed. *Kept*: its first choice is the old
word, over the five attributes not changed. *Signal left*: the factor of the latent in what is denoised.
Guidance {guidance:g}; the last two columns are without guidance, as features are extracted.

{edits}

## Intended use and limits

For demonstrations, tests and simulations of encoding and decoding analyses, where a model must be small,
known and free to ship. It is no image generator: it knows one object at a time and the {n_words} words of its
captions. The VAE smooths texture and thin outlines away and blurs small shapes (see its picture). The probe is
a network, too, and what it reads is not what a person sees. Results on this model say nothing of brains, nor
of large models.

## Licence

BSD-3-Clause, like the package: weights, scenes and code.

## Repeating it

{commands}

All of it is seeded; on another kind of processor the last digits differ.
"""


def write_card(path: Path, found: Measured, sampler: Sampler, out: Path) -> None:
    """Put everything into words and tables."""
    folder, train = model_folder(), "python training/phantom_model.py"
    n_kinds = math.prod(len(words) for words in ATTRIBUTES.values())
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    values = [by[name] for of in found.following.values() for by in of.values() for name in MEASURED]
    commands = [
        ["VAE", f"`{train} vae --out build/phantom`"],
        ["U-Net and text encoder", f"`{train} unet --out build/phantom`"],
        ["weights", f"`{train} export --out build/phantom --to src/latentcortex/datasets/phantom/model`"],
        ["every number and picture here", f"`{COMMAND}` (four minutes on one core)"],
    ]
    text = CARD.format(
        command=COMMAND,
        n_steps=sampler.n_steps,
        guidance=sampler.guidance,
        pool=POOL,
        words=table(["attribute", "words"], [[name, ", ".join(words)] for name, words in ATTRIBUTES.items()]),
        n_kinds=n_kinds,
        unseen=(1 - 1 / n_kinds) ** POOL,
        parts=parts_table(sampler.model, folder),
        megabytes=sum(sizes) / 1e6,
        length=TEXT_LENGTH,
        width=TEXT_WIDTH,
        training=training_table(out),
        n=found.n,
        psnr=found.psnr,
        probe_scenes=PROBE_SCENES,
        probe_reconstructions=PROBE_RECONSTRUCTIONS,
        error=max(float(v.std()) for v in values) / found.n**0.5,
        two_alternative=following_table(found.following, "two_alternative"),
        best_word=following_table(found.following, "best_word"),
        shape_target=SHAPE_TARGET,
        targets=targets_table(found.following),
        n_edits=found.n_edits,
        edits=edits_table(found, sampler),
        n_words=len({*scenes.WORDS, *(word for words in ATTRIBUTES.values() for word in words)}),
        commands=table(["what", "command"], commands),
    )
    path.write_text(text, encoding="utf-8")


# ------------------------------------------------------------------------------------------ everything


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{time.perf_counter() - started:6.1f} s  {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder with the logs of phantom_model.py")
    parser.add_argument("--n", type=int, default=240, help="held-out scenes")
    parser.add_argument("--edits", type=int, default=144, help="held-out scenes for image to image")
    parser.add_argument("--steps", type=int, default=20, help="DDIM steps")
    parser.add_argument("--guidance", type=float, default=3.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    to = Path(__file__).parent
    model = _ldm.load(model_folder())
    guided, plain = (Sampler(model, arguments.steps, g) for g in (arguments.guidance, 1.0))

    with timed("probe"):
        probe = make_probe(model)
    with timed("reconstructions"):
        held_out, images = draw_scenes(HELD_OUT_STREAM, arguments.n)
        again = reconstruct(model, images)
        reconstructions_picture(images, again, to / "phantom_card_reconstructions.png")
    with timed("captions"):
        captions, noise = captions_of(held_out), draw_noise(arguments.n)
        sources = {TRUE: images, RECONSTRUCTED: again}
        sources |= {s.name: s.sample(captions, noise) for s in (guided, plain)}
        followed = {source: following(probe, shown, held_out) for source, shown in sources.items()}
    with timed("edits"):
        edits = [measure_edits(probe, sampler, arguments.edits) for sampler in (guided, plain)]
    with timed("pictures"):
        samples_picture(guided, to / "phantom_card_samples.png")
    found = Measured(arguments.n, arguments.edits, psnr(images, again), followed, *edits)
    write_card(to / "phantom_card.md", found, guided, arguments.out)


if __name__ == "__main__":
    main()
