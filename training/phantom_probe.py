"""What `phantom_card.py` measures with: held-out scenes, samples, and a network that reads attributes off them.

    python training/phantom_probe.py --out src/latentcortex/datasets/phantom/probe.npz

Trains the network as the card does (about a minute on one core) and writes it as the bundled reader wants it,
`latentcortex.datasets.phantom.probe`: batch normalisation folded into the convolutions, float16.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from latentcortex import _files, _ldm
from latentcortex.datasets.phantom import model_folder, scenes
from latentcortex.datasets.phantom.probe import HEADS, LAYERS
from latentcortex.datasets.phantom.probe import Probe as Reader
from latentcortex.datasets.phantom.scenes import ATTRIBUTES, Scene

SEED: Final = 20261120
# The model was trained on stream 1, and the study's stimuli are streams 2 and 3.
PROBE_STREAM, HELD_OUT_STREAM, EDIT_STREAM, NOISE_STREAM, PICTURE_STREAM = 4, 5, 6, 7, 8
MEASURED: Final = (*ATTRIBUTES, "place")
BATCH: Final = 48
PROBE_SCENES, PROBE_RECONSTRUCTIONS, PROBE_STEPS, PROBE_BATCH = 5_000, 1_500, 1_000, 48
WIDTHS: Final = (24, 48, 96, 128)  # at 32, 16, 8 and 4 pixels
MIRRORED: Final = torch.tensor([ATTRIBUTES["column"].index(word) for word in ("right", "centre", "left")])
Followed = dict[str, dict[str, torch.Tensor]]
"""Measure -> attribute -> one value per image."""
TOLERANCE: Final = 0.05
"""Of log-probabilities, which float16 weights move by some .02; a layer read wrongly moves them by more than 1."""
N_ROWS, N_COLUMNS = len(ATTRIBUTES["row"]), len(ATTRIBUTES["column"])


@dataclass(frozen=True)
class Edit:
    """A scene, and the one word of it that a caption changes."""

    before: Scene
    attribute: str
    word: str

    @property
    def after(self) -> Scene:
        return replace(self.before, **{self.attribute: self.word})


def random_for(stream: int, index: int) -> np.random.Generator:
    return np.random.default_rng([SEED, stream, index])


def draw_noise(n: int) -> torch.Tensor:
    """Draw the noise of each image (n, 4, 8, 8), the same whatever `n` is."""
    rows = [random_for(NOISE_STREAM, i).standard_normal((4, 8, 8)) for i in range(n)]
    return torch.from_numpy(np.stack(rows)).float()


def draw_scenes(stream: int, n: int) -> tuple[list[Scene], np.ndarray]:
    """Draw `n` scenes of a stream and their images (n, 64, 64, 3)."""
    drawn, images = [], []
    for i in range(n):
        rng = random_for(stream, i)
        drawn.append(scenes.draw_scene(rng))
        images.append(scenes.render(drawn[-1], rng))
    return drawn, np.stack(images)


def draw_edits(n: int) -> tuple[list[Edit], np.ndarray]:
    """Draw `n` scenes with a change of one attribute each, all attributes equally often, and their images."""
    edits, images = [], []
    for i in range(n):
        rng = random_for(EDIT_STREAM, i)
        before = scenes.draw_scene(rng)
        attribute = list(ATTRIBUTES)[i % len(ATTRIBUTES)]
        others = [word for word in ATTRIBUTES[attribute] if word != getattr(before, attribute)]
        edits.append(Edit(before, attribute, others[int(rng.integers(len(others)))]))
        images.append(scenes.render(before, rng))
    return edits, np.stack(images)


# ------------------------------------------------------------------------------------------- the model


@dataclass(frozen=True)
class Sampler:
    """The model with a number of DDIM steps and a guidance scale (1 is none)."""

    model: _ldm.LatentDiffusion
    n_steps: int
    guidance: float

    @property
    def name(self) -> str:
        return f"samples, guidance {self.guidance:g}"

    def sample(self, captions: Sequence[str], noise: torch.Tensor) -> np.ndarray:
        """Draw an image (n, 64, 64, 3) for each caption."""
        return self._in_batches(captions, noise, lambda _rows, x, c: self._denoise(x, c, self.n_steps))

    def edit(self, images: np.ndarray, captions: Sequence[str], noise: torch.Tensor, strength: int) -> np.ndarray:
        """Noise images to a strength in percent and denoise them with captions; 0 only encodes and decodes."""
        n_own = _ldm.n_steps_of(strength, self.n_steps)

        def change(rows: slice, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            z = _ldm.encode_images(self.model, images[rows])
            noised = _ldm.noised(self.model, z, x, n_own=n_own, n_steps=self.n_steps) if n_own else z
            return self._denoise(noised, c, n_own)

        return self._in_batches(captions, noise, change)

    def signal(self, strength: int) -> float:
        """Find what factor of the latent is left at the start of a strength."""
        n_own = _ldm.n_steps_of(strength, self.n_steps)
        return float(self.model.scheduler.alphas_cumprod[self._grid(n_own)[0]].sqrt()) if n_own else 1.0

    def _grid(self, n_own: int) -> torch.Tensor:
        self.model.scheduler.set_timesteps(self.n_steps)
        grid: torch.Tensor = self.model.scheduler.timesteps[self.n_steps - n_own :]
        return grid

    def _denoise(self, x: torch.Tensor, c: torch.Tensor, n_own: int) -> torch.Tensor:
        return _ldm.denoised(self.model, x, c, n_own=n_own, n_steps=self.n_steps, guidance=self.guidance)

    def _in_batches(
        self,
        captions: Sequence[str],
        noise: torch.Tensor,
        latents: Callable[[slice, torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> np.ndarray:
        c = _ldm.encode_captions(self.model, [(text,) for text in captions])
        batches = [slice(k, k + BATCH) for k in range(0, len(c), BATCH)]
        return np.concatenate([_ldm.decode(self.model, latents(b, noise[b], c[b])) for b in batches])


def reconstruct(model: _ldm.LatentDiffusion, images: np.ndarray) -> np.ndarray:
    """Encode images and decode them again."""
    batches = [images[k : k + BATCH] for k in range(0, len(images), BATCH)]
    return np.concatenate([_ldm.decode(model, _ldm.encode_images(model, batch)) for batch in batches])


def psnr(images: np.ndarray, others: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, from the mean squared error over all images."""
    error = np.mean((images.astype(float) - others) ** 2)
    return float(10 * np.log10(255**2 / error))


# ------------------------------------------------------------------------------------------- the probe


class Probe(nn.Module):
    """Score the words of each attribute: uint8 images (n, 64, 64, 3) -> {attribute: logits (n, n_words)}."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in zip((3, *WIDTHS), WIDTHS, strict=False):
            convolution = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(n_out), nn.ReLU()]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        heads = {name: nn.Linear(16 * WIDTHS[-1], len(words)) for name, words in ATTRIBUTES.items()}
        self.heads = nn.ModuleDict(heads)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        features = self.trunk(x)
        return {name: head(features) for name, head in self.heads.items()}


def words_of(shown: Sequence[Scene]) -> dict[str, torch.Tensor]:
    """Number the words that are true of each scene: {attribute: (n_scenes,)}; `place` is row and column."""
    numbers = {
        name: torch.tensor([words.index(getattr(scene, name)) for scene in shown]) for name, words in ATTRIBUTES.items()
    }
    return {**numbers, "place": numbers["row"] * N_COLUMNS + numbers["column"]}


def train_probe(images: np.ndarray, shown: Sequence[Scene], *, n_steps: int, batch: int, seed: int = 0) -> Probe:
    """Train on images (n, 64, 64, 3) of known scenes; half of a batch is mirrored, and left becomes right."""
    torch.manual_seed(seed)
    probe = Probe()
    optimiser = torch.optim.AdamW(probe.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=n_steps)
    x, truth = torch.from_numpy(images), words_of(shown)
    for _ in range(n_steps):
        rows = torch.randint(len(x), (batch,))
        mirror = torch.rand(batch) < 0.5
        wanted = {name: truth[name][rows] for name in ATTRIBUTES}
        wanted["column"] = torch.where(mirror, MIRRORED[wanted["column"]], wanted["column"])
        with torch.autocast("cpu", torch.bfloat16):
            logits = probe(torch.where(mirror[:, None, None, None], x[rows].flip(2), x[rows]))
        losses = [functional.cross_entropy(logits[name].float(), wanted[name]) for name in ATTRIBUTES]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
        schedule.step()
    return probe.eval()


def make_probe(model: _ldm.LatentDiffusion) -> Probe:
    """Train the probe on drawings and on reconstructions of a part of them."""
    drawn, images = draw_scenes(PROBE_STREAM, PROBE_SCENES)
    again = reconstruct(model, images[:PROBE_RECONSTRUCTIONS])
    both = np.concatenate([images, again])
    shown = [*drawn, *drawn[:PROBE_RECONSTRUCTIONS]]
    return train_probe(both, shown, n_steps=PROBE_STEPS, batch=PROBE_BATCH)


@torch.inference_mode()
def read(probe: Probe, images: np.ndarray) -> dict[str, torch.Tensor]:
    """Read images: {attribute: log-probabilities (n_images, n_words)}; `place` is row and column."""
    logits = probe(torch.from_numpy(images))
    scores = {name: values.log_softmax(1) for name, values in logits.items()}
    place = scores["row"][:, :, None] + scores["column"][:, None, :]
    return {**scores, "place": place.reshape(len(images), N_ROWS * N_COLUMNS)}


def two_alternative(scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Find how often the true word beats another one, for each image; chance is one half.

    Parameters
    ----------
    scores : Tensor of shape (n_images, n_words)
    truth : Tensor of shape (n_images,)
        Number of the true word.

    Returns
    -------
    Tensor of shape (n_images,)
        Mean over all other words: what one drawn at random would give on average.
    """
    beaten = scores < scores.gather(1, truth[:, None])
    return beaten.float().sum(1) / (scores.shape[1] - 1)


def best_word(scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Find whether the true word beats all others, for each image; chance is one by the number of words."""
    return (scores.argmax(1) == truth).float()


MEASURES: Final = (two_alternative, best_word)


def following(probe: Probe, images: np.ndarray, shown: Sequence[Scene]) -> Followed:
    """Compare what the probe reads with what the captions say: {measure: {attribute: (n_images,)}}."""
    scores, truth = read(probe, images), words_of(shown)
    return {measure.__name__: {name: measure(scores[name], truth[name]) for name in MEASURED} for measure in MEASURES}


def edit_success(probe: Probe, images: np.ndarray, edits: Sequence[Edit]) -> dict[str, float]:
    """Find how often the probe reads the new word, per attribute and over all, and the old words elsewhere."""
    right = following(probe, images, [edit.after for edit in edits])["best_word"]
    hits = torch.stack([right[name] for name in ATTRIBUTES], 1)
    changed = torch.tensor([[edit.attribute == name for name in ATTRIBUTES] for edit in edits])
    per_attribute = {name: float(hits[changed[:, k], k].mean()) for k, name in enumerate(ATTRIBUTES)}
    return {**per_attribute, "edited": float(hits[changed].mean()), "kept": float(hits[~changed].mean())}


# -------------------------------------------------------------------------------------- the bundled reader


def folded(probe: Probe) -> dict[str, np.ndarray]:
    """Fold batch normalisation into the convolutions: name -> float16 array."""
    pairs = [pair for pair in zip(probe.trunk, probe.trunk[1:], strict=False) if isinstance(pair[0], nn.Conv2d)]
    parts: dict[str, nn.Module] = {name: fuse_conv_bn_eval(*pair) for name, pair in zip(LAYERS, pairs, strict=True)}
    parts |= {f"head_{name}": probe.heads[name] for name in HEADS}
    return {
        f"{name}_{kind}": getattr(part, kind).detach().numpy().astype(np.float16)
        for name, part in parts.items()
        for kind in ("weight", "bias")
    }


def largest_difference(probe: Probe, reader: Reader, images: np.ndarray) -> float:
    """Compare the log-probabilities that both read, over all images and words."""
    bundled, trained = reader.read(images), read(probe, images)
    return max(float(np.abs(bundled[name] - trained[name].numpy()).max()) for name in reader.attributes)


def write_reader(path: Path, probe: Probe, images: np.ndarray) -> None:
    """Write the reader's weights, unless it reads anything else from the images than the probe does."""
    with _files.writing(path) as part:
        np.savez_compressed(part, **folded(probe))
        difference = largest_difference(probe, Reader(part), images)
        if not difference <= TOLERANCE:
            raise SystemExit(f"Log-probabilities differ by {difference:.3g}; at most {TOLERANCE} is expected.")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, sha256 {_files.sha256(path)}")
    print(f"log-probabilities differ from the trained network's by {difference:.3g} (allowed {TOLERANCE})")


def print_accuracies(reader: Reader, sources: dict[str, np.ndarray], shown: Sequence[Scene]) -> None:
    truth = words_of(shown)
    for source, images in sources.items():
        scores = {name: torch.from_numpy(values) for name, values in reader.read(images).items()}
        for measure in MEASURES:
            found = [f"{name} {float(measure(scores[name], truth[name]).mean()):.3f}" for name in scores]
            print(f"{source}, {measure.__name__}: {', '.join(found)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where to write the weights, an .npz file")
    parser.add_argument("--n", type=int, default=240, help="held-out scenes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = _ldm.load(model_folder())
    probe = make_probe(model)
    held_out, images = draw_scenes(HELD_OUT_STREAM, arguments.n)
    sources = {"drawings": images, "VAE reconstructions": reconstruct(model, images)}
    write_reader(arguments.out, probe, np.concatenate(list(sources.values())))
    print_accuracies(Reader(arguments.out), sources, held_out)


if __name__ == "__main__":
    main()
