"""A latent diffusion model: every component as a band, in one pass over each image's trajectory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, passes, random_for, whole_number
from latentcortex._hub import model_folder, weights_hash
from latentcortex._loading import configuration, modules, threads, tokens
from latentcortex._ranges import AnyNames, Count, Device, OneOf, Percents, PositiveCount
from latentcortex._shelf import unknown
from latentcortex.bands import Band
from latentcortex.errors import InputError, MissingExtraError
from latentcortex.extractors._band_names import check_name, percents
from latentcortex.extractors._configuration import (
    CHOICES,
    DENOISERS,
    KINDS,
    check_grid,
    default_layers,
    denoiser_blocks,
    image_size,
    text_widths,
)
from latentcortex.extractors._methods import describe_bands
from latentcortex.extractors._outputs import LayerReduction, average_over_seeds, resize, rows_of
from latentcortex.features import SPREAD

if TYPE_CHECKING:
    import torch

    from latentcortex import _ldm

logger = logging.getLogger(__name__)

BATCH: Final = 25
"""Images per pass. The last is padded to it: no feature depends on which images are asked for (of a transformer, whose
library multiplies the tokens of all images at once, but for rounding)."""
PHANTOM: Final = "phantom"
STABLE: Final = "CompVis/stable-diffusion-v1-4"
REVISIONS: Final = {STABLE: "133a221b8aa7292a167afc5127cb63fb5005638b"}
"""The commit that is taken of a model unless another is given."""


@dataclass(eq=False)
class LDM:
    """Features of a latent diffusion model: Stable Diffusion 1.x, 2.x, XL, 3.x, or the phantom's.

    Bands, by name: `z`, the image latent (posterior mean), or `z_sampled-K` (a sample of the posterior with seed K);
    `c`, the mean over captions of what the denoiser is given, `c_layer-N` (hidden state N of the text encoder) and
    `c_part-pooled`; `zc_strength-S_step-K`, x_t when K percent of the denoising steps of strength S percent are
    completed, and `zc_strength-S_step-K_as-x0`, the clean latent that this step predicts;
    `unet_layer-L_strength-S_step-K`, a module's output in the U-Net call that completes the step, without guidance,
    and `..._branch-unconditional`, without the captions. Stable Diffusion 3 denoises with a transformer: its layers are
    `dit_layer-L_strength-S_step-K`, the image tokens after a block where their patches lie; its c is far wider.

    Parameters
    ----------
    model : str
        `phantom`, a folder in the layout of Stable Diffusion, or the hub's name of a model that is on this machine.
    revision : str
        The commit of a model from the hub; known for the default.
    pixels : int
        Height and width of images; 0 is 320 for models made for 512, as in the paper, and the model's own otherwise.
    strengths : sequence of int
        Noise strengths of the z_c bands, in percent of `n_steps`, rounded down to whole steps.
    steps : sequence of int
        Denoising steps after which z_c and layers are taken, in percent of those of the strength: early, middle, late.
    layers : sequence of str, or mapping of str to str, optional
        Blocks by their short names (`down0`, `mid`, `up1`; `block0`, `block23`), or short names of your own -> modules,
        such as {"late": "up_blocks.3.attentions.2"}. By default two of the first stage, the bottleneck, two of the
        second; of a transformer's blocks five evenly.
    n_steps : int
        Length of the whole timestep grid; 0 is 10 for the phantom and 50 otherwise. The steps of a U-Net's grid are
        whole timesteps: a grid that leaves out more than a twentieth of those of training is refused.
    bands : sequence of str, optional
        The bands that are extracted; by default those of the analyses that a study runs by default.
    pool : int
        Rows and columns of the grid over whose fields outputs of layers are averaged; 0 keeps every position.
    n_projected : int
        Number of seeded sparse random directions that wider layers are projected onto; 0 keeps all dimensions.
    n_seeds : int
        Number of noise draws that z_c and layers are averaged over; the store says how reliable the average is.
    weights : {"trained", "untrained"}
        `untrained` gives the denoiser seeded random weights: the baseline of the same architecture.
    input : {"images", "noise"}
        What the model is given: `noise` puts noise in place of each image's z, the baseline that saw no image.
    noise_start : {"consistent", "compvis"}
        Whether noising ends where denoising begins, or one step later as in the code of CompVis.
    dtype : {"float32", "bfloat16", "float16"}
        Precision of denoiser and text encoders; the autoencoder is float32.
    device : str
        Where torch computes: `cpu`, `cuda`, `cuda:1`, `mps`.
    batch : int
        Images per pass; the last is padded. On a CPU passes run side by side, a thread each: small ones fill the cores.
    seed : int
        Seed of the noise, of which each image has its own.

    Raises
    ------
    InputError
        If a strength, step, layer or band is not possible.
    MissingExtraError
        If torch, diffusers or transformers is not installed.

    References
    ----------
    Takagi and Nishimoto (2023), doi:10.1109/CVPR52729.2023.01389; Rombach et al. (2022),
    doi:10.1109/CVPR52688.2022.01042; Esser et al. (2024), doi:10.48550/arXiv.2403.03206
    """

    model: str = STABLE
    revision: str = ""
    pixels: Count = 0
    strengths: Percents = (20, 40, 60, 80)
    steps: Percents = (25, 50, 100)
    layers: AnyNames | Mapping[str, str] = ()
    n_steps: Count = 0
    bands: AnyNames = ()
    pool: Count = 0
    n_projected: Count = 0
    n_seeds: PositiveCount = 1
    weights: Annotated[str, OneOf(CHOICES["weights"])] = "trained"
    input: Annotated[str, OneOf(CHOICES["input"])] = "images"
    noise_start: Annotated[str, OneOf(CHOICES["noise_start"])] = "consistent"
    dtype: Annotated[str, OneOf(CHOICES["dtype"])] = "float32"
    device: Device = "cpu"
    batch: PositiveCount = BATCH
    seed: Count = 0

    def __post_init__(self) -> None:
        if any(find_spec(name) is None for name in ("torch", "diffusers", "transformers")):
            raise MissingExtraError.of("ldm", needed_for="The extractor 'ldm'")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(name, str(getattr(self, name)), choices)
        least = {"pixels": 0, "n_steps": 0, "pool": 0, "n_projected": 0, "n_seeds": 1, "batch": 1, "seed": 0}
        for name, value in least.items():
            whole_number(name, getattr(self, name), least=value)
        self.strengths, self.steps = percents("strengths", self.strengths), percents("steps", self.steps)
        self.n_steps = self.n_steps or (10 if self.model == PHANTOM else 50)
        if self.strengths[0] * self.n_steps < 100:
            raise InputError(f"A strength of {self.strengths[0]} % of {self.n_steps} steps is less than one step.")
        if (self.folder / "scheduler").is_dir():
            noise = configuration.read_scheduler(self.folder / "scheduler", of_flow=self.denoiser == "dit")
            check_grid(self.n_steps, noise["num_train_timesteps"], self.denoiser)
        self.pixels = image_size(self.pixels, self._denoiser_config, self._factor, self.denoiser)
        self._custom_modules = dict(self.layers) if isinstance(self.layers, Mapping) else {}
        self.layers = tuple(self.layers) or default_layers(self._denoiser_config, self.denoiser)
        self.bands = tuple(self.bands) or self._default_bands()
        self.check(self.bands)

    @cached_property
    def folder(self) -> Path:
        """The folder of the model on this machine."""
        if self.model == PHANTOM:
            return Path(__file__).parents[1] / "datasets" / "phantom" / "model"
        return model_folder(self.model, self.revision or REVISIONS.get(self.model, ""))

    @cached_property
    def parts(self) -> _ldm.LatentDiffusion:
        """The loaded model."""
        from latentcortex import _ldm

        untrained = self.seed if self.weights == "untrained" else None
        model = _ldm.load(self.folder, dtype=self.dtype, device=self.device, untrained=untrained)
        self._log_first_timesteps(model)
        return model

    @cached_property
    def _reduction(self) -> LayerReduction:
        return LayerReduction(self.pool, self.n_projected, self.seed)

    @cached_property
    def _passes(self) -> threads.Passes:
        return threads.Passes(self.parts, self.parts.modules, alone=self.device != "cpu")

    @cached_property
    def _layout(self) -> _ldm.DiffusionFolder:
        """Which parts the folder has, every one of them checked; nothing is loaded."""
        from latentcortex import _ldm

        modules.check_device(self.device)
        return _ldm.DiffusionFolder.read(self.folder).checked()

    def _log_first_timesteps(self, model: _ldm.LatentDiffusion) -> None:
        """Log at which timestep denoising begins for each strength: grids end below the last timestep of training."""
        from latentcortex import _ldm

        strengths = sorted({Band(name).number("strength") for name in self.bands if "_strength-" in name})
        begins = _ldm.beginnings(model, strengths, n_steps=self.n_steps, start=self.noise_start)
        if begins:
            n_timesteps = model.scheduler.config["num_train_timesteps"]
            timesteps = ", ".join(f"{strength} % at {t:g}" for strength, t in begins.items())
            logger.info("Of %d timesteps of training, strengths begin: %s.", n_timesteps, timesteps)

    def _config(self, part: str) -> dict[str, Any]:
        """Read the configuration of a part, without loading its weights."""
        return configuration.read(self.folder / part, KINDS[part])

    @property
    def denoiser(self) -> str:
        """The kind of denoiser, as the bands of its layers begin: `unet`, or `dit` for a transformer."""
        return "dit" if (self.folder / DENOISERS["dit"]).is_dir() else "unet"

    @property
    def _encodes_empty_text_as_zeros(self) -> bool:
        """Whether zeros stand for the empty text, as the folder of an XL model may say; of no other model."""
        if not (self.folder / "text_encoder_2").is_dir():
            return False
        from latentcortex import _ldm

        return _ldm.DiffusionFolder.read(self.folder).zeros

    @property
    def _denoiser_config(self) -> dict[str, Any]:
        """The configuration of the denoiser."""
        return self._config(DENOISERS[self.denoiser])

    @property
    def _factor(self) -> int:
        """Pixels per position of the latent, each way."""
        return int(2 ** (len(self._config("vae")["block_out_channels"]) - 1))

    @property
    def latent(self) -> tuple[int, int, int]:
        """Channels, height and width of the image latent."""
        side = self.pixels // self._factor
        return int(self._config("vae")["latent_channels"]), side, side

    @property
    def text(self) -> dict[str, Any]:
        """The configuration of the (first) text encoder."""
        return self._config("text_encoder")

    @property
    def modules(self) -> dict[str, str]:
        """Short names of the denoiser's blocks and of `layers` -> names of its modules."""
        return {**denoiser_blocks(self._denoiser_config, self.denoiser), **self._custom_modules}

    # The bands

    @property
    def strength(self) -> int:
        """The strength at which steps and layers are taken, in percent: 80, or the nearest of `strengths`."""
        return min(self.strengths, key=lambda s: abs(s - 80))

    def _default_bands(self) -> tuple[str, ...]:
        """List z, c, z_c at every strength and at every step of one strength, and every layer at these steps."""
        by_strength = [f"zc_strength-{s}_step-100" for s in self.strengths]
        at_steps = [f"strength-{self.strength}_step-{k}" for k in self.steps]
        by_step = [f"zc_{at_step}" for at_step in at_steps]
        by_layer = [f"{self.denoiser}_layer-{layer}_{at_step}" for at_step in at_steps for layer in self.layers]
        return tuple(dict.fromkeys(["z", "c", *by_strength, *by_step, *by_layer]))

    @property
    def made_by(self) -> dict[str, Any]:
        """What the features depend on."""
        given_and_default = {
            "modules": (self._custom_modules, {}),
            "pool": (self.pool, 0),
            "n_projected": (self.n_projected, 0),
            "n_seeds": (self.n_seeds, 1),
            "trained": (self.weights, "trained"),
            "input": (self.input, "images"),
            "noise_start": (self.noise_start, "consistent"),
            "dtype": (self.dtype, "float32"),
        }
        return {
            "name": "ldm",
            "version": 1,
            "weights": weights_hash(self.folder),
            "pixels": self.pixels,
            "n_steps": self.n_steps,
            "guidance": "none",
            "z": "posterior mean",
            "zc": "x_t",
            "shapes": {"z": list(self.latent), "zc": list(self.latent)},
            "batch": self.batch,
            "seed": self.seed,
            **(threads.MADE_BY if self.device == "cpu" else {}),
            **({"unconditional": "zeros"} if self._encodes_empty_text_as_zeros else {}),
            **{key: given for key, (given, default) in given_and_default.items() if given != default},
        }

    def methods(self, bands: Sequence[str] = ()) -> str:
        """Write for a methods section how these bands, or all, were made."""
        return describe_bands(self, bands or self.bands)

    def timestep(self, band: str) -> dict[str, float]:
        """Return the `timestep` and `alpha_bar` of a band after its step, for the sidecar; of z and c nothing.

        Alpha-bar is the share of the signal in the variance; a flow with noise level sigma has
        (1 - sigma)^2 / ((1 - sigma)^2 + sigma^2).
        """
        parsed = Band(band)
        if parsed.kind not in ("zc", *DENOISERS):
            return {}
        from latentcortex import _ldm

        n_steps = _ldm.n_steps_of(parsed.number("strength"), self.n_steps)
        done = _ldm.step_index(parsed.number("step"), n_steps)
        scheduler = self._scheduler
        remaining = n_steps - done if parsed.kind == "zc" else n_steps - done + 1
        t = scheduler.timesteps[self.n_steps - remaining].item() if remaining > 0 else 0
        alpha_bar = scheduler.alpha_bar(t) if self.denoiser == "dit" else scheduler.alphas_cumprod[t]
        return {"timestep": t, "alpha_bar": float(alpha_bar)}

    @cached_property
    def _scheduler(self) -> Any:
        from latentcortex import _ldm

        scheduler = _ldm.scheduler(_ldm.DiffusionFolder.read(self.folder))
        scheduler.set_timesteps(self.n_steps)
        return scheduler

    def dims(self, bands: Sequence[str]) -> dict[str, int]:
        """Predict the width of each band from the model's configuration, without loading it."""
        from latentcortex import _ldm

        parsed = {band: Band(band) for band in bands}
        latent = int(np.prod(self.latent))
        texts = [self._config(part) for part in ("text_encoder", "text_encoder_2") if (self.folder / part).is_dir()]
        of_text = text_widths(texts, self._denoiser_config, self.denoiser, _ldm.T5_TOKENS)
        names = {band.entities["layer"] for band in parsed.values() if band.kind in DENOISERS}
        modules, of_flow = {name: self.modules[name] for name in names}, self.denoiser == "dit"
        shapes = _ldm.layer_shapes(self._denoiser_config, self.latent, set(modules.values()), of_flow=of_flow)

        def width(band: Band) -> int:
            if band.kind == "c":
                return int(of_text[next(iter(band.entities), "")])
            if band.kind in ("z", "zc"):
                return latent
            return self._reduction.width(shapes[modules[band.entities["layer"]]])

        return {name: width(band) for name, band in parsed.items()}

    def n_rows(self, bands: Sequence[str]) -> int:
        """Count the images that pass through the denoiser for one stimulus."""
        from latentcortex import _ldm

        n_calls: dict[int, int] = {}  # strength -> denoiser calls until its last step that a band needs
        unconditional = set()  # (strength, step) of calls without captions
        for tap in self._taps(bands).values():
            done = _ldm.step_index(tap.step, _ldm.n_steps_of(tap.strength, self.n_steps))
            n_calls[tap.strength] = max(n_calls.get(tap.strength, 0), done)
            unconditional |= {(tap.strength, done)} if tap.blind else set()
        return self.n_seeds * (sum(n_calls.values()) + len(unconditional))

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Raise `InputError` for a band that the model does not have, or that needs captions that are missing.

        All bands but z are conditioned on captions. Where captions are given, an extraction is to begin: every part of
        the model is checked, too.
        """
        self._check_bands(bands, captions)
        if captions is not None:
            _ = self._layout

    def cut(self, captions: Sequence[tuple[str, ...]]) -> str:
        """Say how many captions are longer than the window of the (first) text encoder; empty if none is."""
        if all(Band(name).kind == "z" for name in self.bands):
            return ""
        return tokens.told(self._layout.tokenizer(""), captions, self.text["max_position_embeddings"])

    def _check_bands(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None) -> None:
        conditioned = [name for name in bands if Band(name).kind != "z"]
        if conditioned and captions is not None and not all(captions):
            missing = sum(not texts for texts in captions)
            raise InputError(f"Band {conditioned[0]} needs captions; {missing} stimuli have none. Ask for z alone.")
        if self.noise_start == "compvis" and any("_strength-100_" in name for name in bands):
            raise InputError("A strength of 100 % lies beyond the grid of noise_start = 'compvis'; use less.")
        for name in bands:
            check_name(
                name,
                n_steps=self.n_steps,
                layers=self.modules,
                n_text_layers=self.text["num_hidden_layers"],
                denoiser=self.denoiser,
            )

    # Extraction

    def extract(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Compute the bands of a few stimuli in padded passes; each (n_stimuli, n_dims).

        With several seeds also, for each band that depends on noise, `spread.` and its name: the variance over seeds,
        summed over dimensions, (n_stimuli,).
        """
        self._check_bands(bands, captions)

        def extract_batch(model: _ldm.LatentDiffusion, batch: tuple[list[int], int]) -> dict[str, FloatArray]:
            rows, n = batch
            hashes = [pixel_hashes[i] for i in rows]
            padded = self._extract_batch(model, images[rows], [captions[i] for i in rows], hashes, bands)
            return {band: values[:n] for band, values in padded.items()}

        parts = self._passes.map(extract_batch, list(passes(len(images), self.batch)))
        return {band: np.concatenate([part[band] for part in parts]) for band in parts[0]}

    def _extract_batch(
        self,
        model: _ldm.LatentDiffusion,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Compute the bands of one padded pass; each (n_stimuli, n_dims)."""
        from latentcortex import _ldm

        images = resize(images, self.pixels)
        z = self._noise(pixel_hashes, "in place of the image") if self.input == "noise" else None
        z = _ldm.encode_images(model, images) if z is None else z
        c = _ldm.condition(model, captions, pixels=self.pixels)
        values: dict[str, FloatArray] = {}
        for name in bands:
            band = Band(name)
            if band.kind == "z" and band.entities:
                noise = self._noise(pixel_hashes, "posterior sample", band.number("sampled"))
                values[name] = rows_of(_ldm.encode_images(model, images, noise))
            elif band.kind == "z":
                values[name] = rows_of(z)
            elif "part" in band.entities:
                values[name] = rows_of(_ldm.pooled(model, captions))
            elif band.kind == "c" and band.entities:
                layer = band.number("layer")
                values[name] = rows_of(_ldm.condition(model, captions, pixels=self.pixels, layer=layer).states)
            elif band.kind == "c":
                values[name] = rows_of(c.states)
        taps = self._taps(bands)
        if taps:
            values |= average_over_seeds(self._run_seeds(model, z, c, pixel_hashes, taps))
        return {name: values[name] for name in [*bands, *(key for key in values if key.startswith(SPREAD))]}

    def _run_seeds(
        self,
        model: _ldm.LatentDiffusion,
        z: torch.Tensor,
        c: _ldm.Conditioning,
        pixel_hashes: Sequence[str],
        taps: Mapping[str, _ldm.Tap],
    ) -> Iterator[dict[str, FloatArray]]:
        """Noise and denoise once for each seed; yield the bands along the trajectory, each (n_stimuli, n_dims)."""
        from latentcortex import _ldm

        needs_unconditional = any(tap.blind for tap in taps.values())
        nothing = _ldm.unconditional(model, pixels=self.pixels) if needs_unconditional else None
        for k in range(self.n_seeds):
            noise = self._noise(pixel_hashes, "diffusion noise", *([k] if k else []))
            trajectory = _ldm.trajectory(
                model,
                z,
                c,
                noise,
                n_steps=self.n_steps,
                taps=tuple(dict.fromkeys(taps.values())),
                nothing=nothing,
                start=self.noise_start,
            )
            yield {name: self._reduction.reduce(trajectory.caught[tap], tap.layer) for name, tap in taps.items()}

    def _taps(self, bands: Sequence[str]) -> dict[str, _ldm.Tap]:
        """Say for each band that depends on noise which output is taken at which strength and step."""
        from latentcortex import _ldm

        taps = {}
        for name in bands:
            band = Band(name)
            if band.kind in ("zc", *DENOISERS):
                output = self.modules[band.entities["layer"]] if band.kind in DENOISERS else "x_t"
                output = "x0" if band.entities.get("as") == "x0" else output
                strength, step = band.number("strength"), band.number("step")
                taps[name] = _ldm.Tap(output, strength, step, blind=band.entities.get("branch") == "unconditional")
        return taps

    def _noise(self, pixel_hashes: Sequence[str], purpose: str, *more: int) -> torch.Tensor:
        """Draw Gaussian noise of the latent's shape for each image, (n_stimuli, n_channels, height, width)."""
        import torch

        generators = (random_for(self.seed, purpose, image, *more) for image in pixel_hashes)
        noise = np.stack([generator.standard_normal(self.latent, dtype=np.float32) for generator in generators])
        return torch.from_numpy(noise).to(self.device)
