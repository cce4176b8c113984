"""A latent diffusion model: every component as a band, in one pass over each image's trajectory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcortex import _files
from latentcortex._arrays import FloatArray, digest, listed, passes, random_for
from latentcortex._shelf import unknown
from latentcortex.errors import InputError, MissingExtraError
from latentcortex.features import Band

if TYPE_CHECKING:
    from latentcortex import _ldm

logger = logging.getLogger(__name__)

BATCH: Final = 25
"""Images per pass. The last is padded to it: no feature depends on which images are asked for."""
PHANTOM: Final = "phantom"


class LDM:
    """Features of a latent diffusion model.

    Bands: `z` (the image latent, posterior mean), `c` (the captions' mean embedding), `zc_strength-S_step-K`
    (x_t when K percent of the denoising steps of strength S percent are completed), and
    `unet_layer-L_strength-S_step-K` (the block's output in the U-Net call that completes the step, without
    guidance).

    Parameters
    ----------
    model : str
        `phantom` for the bundled model, or a folder in the layout of Stable Diffusion.
    strengths : sequence of int
        Noise strengths of the z_c bands, percent.
    steps : sequence of int
        Early, middle and late denoising step, percent; the last must be 100.
    layers : sequence of str, optional
        U-Net blocks; by default two of the first stage, the bottleneck and two of the second stage.
    n_steps : int
        Length of the whole timestep grid.
    bands : sequence of str, optional
        Only these.
    seed : int
        For the noise, of which each image has its own.

    Raises
    ------
    InputError
        If a strength, step, layer or band is not possible.
    MissingExtraError
        If torch, diffusers or transformers is not installed.
    """

    def __init__(
        self,
        model: str = PHANTOM,
        *,
        strengths: Sequence[int] = (20, 40, 60, 80),
        steps: Sequence[int] = (25, 50, 100),
        layers: Sequence[str] | None = None,
        n_steps: int = 10,
        bands: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if any(find_spec(name) is None for name in ("torch", "diffusers", "transformers")):
            raise MissingExtraError.of("ldm", needed_for="The extractor 'ldm'")
        self.model, self.n_steps, self.seed = model, n_steps, seed
        self.strengths, self.steps = _percents("strengths", strengths), _percents("steps", steps)
        if self.strengths[0] * n_steps < 100:
            raise InputError(f"A strength of {self.strengths[0]} % of {n_steps} steps is less than one step.")
        self._layers = tuple(layers) if layers is not None else None
        self._bands = tuple(bands) if bands is not None else None
        if self._bands is not None:
            self.check(self._bands)

    @cached_property
    def parts(self) -> _ldm.LatentDiffusion:
        """The loaded model."""
        from latentcortex import _ldm

        return _ldm.load(self.folder)

    @property
    def folder(self) -> Path:
        """Where the model is."""
        if self.model == PHANTOM:
            return Path(__file__).parents[1] / "datasets" / "phantom" / "model"
        folder = Path(self.model)
        if not folder.is_dir():
            raise InputError(f"Model {self.model} is not a folder; give one in Stable Diffusion's layout or 'phantom'.")
        return folder

    def _config(self, part: str) -> dict[str, Any]:
        """Read a part's configuration; what a model is can be known without loading it."""
        path = self.folder / part / "config.json"
        if not path.is_file():
            raise InputError(f"{self.folder} is not a latent diffusion model: {part}/config.json is missing.")
        config: dict[str, Any] = _files.read_json(path)
        return config

    @property
    def pixels(self) -> int:
        """Height and width of the images that the model was made for."""
        factor = 2 ** (len(self._config("vae")["block_out_channels"]) - 1)
        return int(self._config("unet")["sample_size"] * factor)

    @property
    def latent(self) -> list[int]:
        """Channels, height and width of the image latent."""
        unet = self._config("unet")
        return [unet["in_channels"], unet["sample_size"], unet["sample_size"]]

    @property
    def modules(self) -> dict[str, str]:
        """Short names of the U-Net's blocks -> names of its modules."""
        n = len(self._config("unet")["down_block_types"])
        down = {f"down{i}": f"down_blocks.{i}" for i in range(n)}
        return {**down, "mid": "mid_block", **{f"up{i}": f"up_blocks.{i}" for i in range(n)}}

    @property
    def strength(self) -> int:
        """The strength at which steps and layers are looked at: 80 percent, or the nearest given."""
        return min(self.strengths, key=lambda s: abs(s - 80))

    @property
    def layers(self) -> tuple[str, ...]:
        """The U-Net blocks that are looked at."""
        if self._layers is not None:
            return self._layers
        n = len(self.parts.unet.down_blocks)
        ends = ("down0", f"down{max(n - 2, 0)}", "mid", f"up{max(n - 3, 0)}", f"up{n - 1}")
        return tuple(dict.fromkeys(ends))

    @property
    def bands(self) -> tuple[str, ...]:
        """All bands that the canonical analyses need, or those that were asked for."""
        if self._bands is not None:
            return self._bands
        levels = [f"zc_strength-{s}_step-100" for s in self.strengths]
        stages = [f"zc_strength-{self.strength}_step-{k}" for k in self.steps]
        blocks = [f"unet_layer-{la}_strength-{self.strength}_step-{k}" for k in self.steps for la in self.layers]
        return tuple(dict.fromkeys(["z", "c", *levels, *stages, *blocks]))

    @property
    def made_by(self) -> dict[str, Any]:
        """What the features depend on."""
        return {
            "name": "ldm",
            "version": 1,
            "weights": weights_hash(self.folder),
            "pixels": self.pixels,
            "n_steps": self.n_steps,
            "guidance": "none",
            "z": "posterior mean",
            "zc": "x_t",
            "shapes": {"z": self.latent, "zc": self.latent},
            "batch": BATCH,
            "seed": self.seed,
        }

    def timestep(self, band: str) -> dict[str, float]:
        """Say where on the scheduler a band lies: timestep and alpha-bar after the step, for the sidecar."""
        parsed = Band.parse(band)
        if parsed.kind not in ("zc", "unet"):
            return {}
        from latentcortex import _ldm

        own = _ldm.n_steps_of(parsed.number("strength"), self.n_steps)
        done = _ldm.step_index(parsed.number("step"), own)
        scheduler = self.parts.scheduler
        scheduler.set_timesteps(self.n_steps)
        left = own - done if parsed.kind == "zc" else own - done + 1
        t = int(scheduler.timesteps[self.n_steps - left]) if left > 0 else 0
        return {"timestep": t, "alpha_bar": float(scheduler.alphas_cumprod[t])}

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Raise `InputError` for a band that the model does not have, or that needs captions that are missing.

        All bands but z are conditioned on captions.
        """
        conditioned = [name for name in bands if Band.parse(name).kind != "z"]
        if conditioned and captions is not None and not all(captions):
            missing = sum(not texts for texts in captions)
            raise InputError(f"Band {conditioned[0]} needs captions; {missing} stimuli have none. Ask for z alone.")
        for name in bands:
            band = Band.parse(name)
            if band.kind in ("z", "c") and not band.entities:
                continue
            if band.kind not in ("zc", "unet"):
                raise unknown("band of ldm", name, ("z", "c", "zc_strength-80_step-100"))
            strength, step = band.number("strength"), band.number("step")
            lowest = 0 if band.kind == "zc" else 1
            if not (strength * self.n_steps >= 100 and strength <= 100 and lowest <= step <= 100):
                raise InputError(f"Band {name}: strength must give at least one step, and step lie in {lowest}..100.")
            if band.kind == "unet" and band.entities.get("layer") not in self.modules:
                raise unknown("layer", band.entities.get("layer", ""), self.modules)

    def extract(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Compute the bands of a few stimuli in padded passes; each (n_stimuli, n_dims)."""
        self.check(bands, captions)
        parts = []
        for rows, n in passes(len(images), BATCH):
            found = self._pass(images[rows], [captions[i] for i in rows], [pixel_hashes[i] for i in rows], bands)
            parts.append({band: values[:n] for band, values in found.items()})
        return {band: np.concatenate([part[band] for part in parts]) for band in bands}

    def _pass(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        import torch

        from latentcortex import _ldm

        model = self.parts
        z = _ldm.encode_images(model, self._resized(images))
        c = _ldm.encode_captions(model, captions)
        noise = torch.from_numpy(np.stack([self.noise(h, tuple(z.shape[1:])) for h in pixel_hashes]))
        parsed = {band: Band.parse(band) for band in bands}
        latents = {n: (b.number("strength"), b.number("step")) for n, b in parsed.items() if b.kind == "zc"}
        layers = {
            n: (self.modules[b.entities["layer"]], b.number("strength"), b.number("step"))
            for n, b in parsed.items()
            if b.kind == "unet"
        }
        caught = _ldm.trajectory(
            model,
            z,
            c,
            noise,
            n_steps=self.n_steps,
            latents=list(latents.values()),
            layers=list(layers.values()),
        )
        found = {"z": z, "c": c}
        found |= {name: caught.latents[tap] for name, tap in latents.items()}
        found |= {name: caught.layers[tap] for name, tap in layers.items()}
        return {band: found[band].flatten(1).numpy().astype(np.float32) for band in bands}

    def noise(self, pixel_hash: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Draw the noise that belongs to one image."""
        return random_for(self.seed, "diffusion noise", pixel_hash).standard_normal(shape, dtype=np.float32)

    def _resized(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = (self.pixels, self.pixels)
        if images.shape[1:3] == size:
            return images
        logger.info("Images of %s were resized to %s for the model.", images.shape[1:3], size)
        return np.stack([np.asarray(Image.fromarray(i).resize(size, Image.Resampling.LANCZOS)) for i in images])


@lru_cache(maxsize=8)
def weights_hash(folder: Path) -> str:
    """Hash all weight and configuration files of a model folder, whatever the folder is called."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json", ".txt"))
    return digest([(path.relative_to(folder).as_posix(), _files.sha256(path)) for path in files])


def _percents(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Check a list of percents; return it ascending."""
    wrong = [value for value in values if type(value) is not int or not 1 <= value <= 100]
    if wrong or not values:
        raise InputError(f"{name} must be whole percents from 1 to 100; got {listed(values) or 'none'}.")
    return tuple(sorted(set(values)))
