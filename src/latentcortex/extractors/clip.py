"""CLIP: embeddings of images and captions by a model that was trained to match them, and layers of its vision tower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcortex._arrays import FloatArray, passes, words
from latentcortex._hub import model_folder, weights_hash
from latentcortex._loading import configuration, modules, threads, tokens
from latentcortex._ranges import Names, OneOf
from latentcortex._shelf import unknown
from latentcortex.bands import Band
from latentcortex.errors import InputError, MissingExtraError

REPOSITORY: Final = "openai/clip-vit-large-patch14"
PINNED: Final = {REPOSITORY: "32bd64288804d66eefd0ccbe215aa642df71cc41"}
"""The commit that is taken of a model unless another is given."""
BATCH: Final = 25
"""Images per pass. The last is padded to it: no feature depends on which images are asked for."""
CAPTION_BATCH: Final = 64
"""Captions per pass, padded likewise."""
VISION: Final = "clip_part-vision"
TEXT: Final = "clip_part-text"
POOLS: Final[dict[str, Callable[[Any], Any]]] = {"cls": lambda h: h[:, 0], "mean": lambda h: h[:, 1:].mean(1)}
"""Ways to make one vector of a layer's tokens (n_stimuli, n_tokens, n_dims): the class token, or the patches' mean."""


class CLIP:
    """Features of a CLIP model [1]_ with a vision transformer.

    Bands, with the number of dimensions that the default model gives:

    - `clip_part-vision` (768): the image embedding, projected into the space that images and texts share.
    - `clip_part-text` (768): the text embedding in the same space, the mean over the image's captions. Neither is
      scaled to unit length.
    - `clip_layer-N` (1024): hidden state N of the vision tower, 0 (what enters the first block) to its number of
      blocks, 24.

    Nothing is fetched: the model is a local folder, or a repository that is in the local cache already.

    Parameters
    ----------
    model : str
        A folder with the model, its tokenizer and `preprocessor_config.json`, as transformers saves them, or the hub's
        name of a model that is on this machine.
    revision : str
        The commit of a model from the hub; known for the default.
    bands : sequence of str, optional
        Only these; both parts by default.
    pool : str
        What of a layer's tokens is taken: `cls`, the class token, or `mean`, the mean over the patches.

    Raises
    ------
    InputError
        If the model is not there or is not a CLIP model, or a band or setting is not possible.
    MissingExtraError
        If torch or transformers is not installed.

    References
    ----------
    .. [1] Radford, A., et al. (2021). Learning transferable visual models from natural language supervision. ICML.
       doi:10.48550/arXiv.2103.00020
    """

    def __init__(
        self,
        model: str = REPOSITORY,
        *,
        revision: str = "",
        bands: Names | None = None,
        pool: Annotated[str, OneOf(POOLS, "pool")] = "cls",
    ) -> None:
        if any(find_spec(name) is None for name in ("torch", "transformers")):
            raise MissingExtraError.of("ldm", needed_for="The extractor 'clip'")
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
        self.model, self.pool = model, pool
        self.revision = revision or PINNED.get(model, "")
        self._bands = words("bands", bands) if bands is not None else (VISION, TEXT)
        if bands is not None:
            self.check(self._bands)

    @cached_property
    def folder(self) -> Path:
        """The folder of the model on this machine."""
        return model_folder(self.model, self.revision)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration of the model, its two towers in `vision_config` and `text_config`."""
        return configuration.read(self.folder, configuration.CLIP)

    @cached_property
    def preparation(self) -> ImagePreparation:
        """How images are prepared for the model."""
        preparation = ImagePreparation.read(self.folder / "preprocessor_config.json")
        size = self.config["vision_config"]["image_size"]
        if preparation.side != size:
            raise InputError(
                f"{self.folder} prepares images of {preparation.side} pixels for a model of {size} pixels."
            )
        return preparation

    @property
    def bands(self) -> tuple[str, ...]:
        """The embeddings of images and captions, or the bands that were asked for."""
        return self._bands

    @property
    def made_by(self) -> dict[str, Any]:
        """What the features depend on."""
        tower = self.config["vision_config"]
        blocks, width, patch = tower["num_hidden_layers"], tower["hidden_size"], tower["patch_size"]
        return {
            "name": "clip",
            "version": 1,
            "weights": weights_hash(self.folder),
            "vision": f"{blocks} blocks of {width} dimensions, patches of {patch} pixels",
            "pixels": self.preparation.side,
            "pool": self.pool,
            "text": "mean over captions",
            "batch": BATCH,
            **threads.MADE_BY,
        }

    def methods(self, bands: Sequence[str] = ()) -> str:
        """Write for a methods section how these bands, or all, were made."""
        described = tuple(bands or self.bands)
        words = [f"Features were taken from the CLIP model {self.model} [@radford2021]."]
        if VISION in described:
            words.append("Its image embedding was projected into the space that images and texts share.")
        if TEXT in described:
            words.append("Its text embedding in that space was averaged over the captions of an image.")
        layers = [str(Band(band).number("layer")) for band in described if band not in (VISION, TEXT)]
        if layers:
            vector = "class token" if self.pool == "cls" else "mean over patches"
            words.append(f"Of the hidden states {', '.join(layers)} of its vision tower the {vector} was taken.")
        return " ".join(words)

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Raise `InputError` for a band that the model does not have, or for texts where captions are missing.

        Where captions are given, an extraction is to begin: the weights and the tokenizer are checked, too.
        """
        self._check_bands(bands, captions)
        if captions is not None:
            modules.inspect(self.folder, configuration.CLIP)
            _ = self.preparation, self.tokenizer if TEXT in bands else None

    def cut(self, captions: Sequence[tuple[str, ...]]) -> str:
        """Say how many captions are longer than the text tower's window; empty if none is, or none is read."""
        if TEXT not in self.bands:
            return ""
        return tokens.told(self.tokenizer, captions, self.config["text_config"]["max_position_embeddings"])

    def _check_bands(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None) -> None:
        deepest = self.config["vision_config"]["num_hidden_layers"]
        layers = [f"clip_layer-{n}" for n in range(deepest + 1)]
        for band in bands:
            if band.startswith("clip_layer-") and band not in layers:
                raise InputError(f"Band {band}: the model has clip_layer-0 to clip_layer-{deepest}.")
            if band not in (VISION, TEXT, *layers):
                raise unknown("band of clip", band, (VISION, TEXT, layers[-1]))
        if TEXT in bands and captions is not None and not all(captions):
            missing = sum(not texts for texts in captions)
            raise InputError(f"Band {TEXT} needs captions; {missing} stimuli have none. Ask for {VISION} alone.")

    def extract(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Compute the bands of a few stimuli in padded passes; each (n_stimuli, n_dims), float32."""
        self._check_bands(bands, captions)
        of_images = [band for band in bands if band != TEXT]
        outputs = self._embed_images(images, of_images) if of_images else {}
        return {band: outputs[band] if band in outputs else self._embed_captions(captions) for band in bands}

    def _embed_images(self, images: NDArray[np.uint8], bands: Sequence[str]) -> dict[str, FloatArray]:
        """Compute the image embedding and hidden states of the vision tower, each (n_stimuli, n_dims)."""
        layers = {band: Band(band).number("layer") for band in bands if band != VISION}

        def embed(model: tuple[Any, Any], batch: tuple[list[int], int]) -> dict[str, FloatArray]:
            import torch

            (network, _), (rows, n) = model, batch
            with torch.inference_mode():
                x = torch.from_numpy(self.preparation.prepare(images[rows]))
                out = network.vision_model(pixel_values=x, output_hidden_states=bool(layers))
                outputs = {VISION: network.visual_projection(out.pooler_output)}
                outputs |= {band: POOLS[self.pool](out.hidden_states[layer]) for band, layer in layers.items()}
            return {band: outputs[band][:n].numpy() for band in bands}

        parts = self._image_passes.map(embed, list(passes(len(images), BATCH)))
        return {band: np.concatenate([part[band] for part in parts]) for band in bands}

    def _embed_captions(self, captions: Sequence[tuple[str, ...]]) -> FloatArray:
        """Compute the mean text embedding of each stimulus's captions, (n_stimuli, n_dims)."""
        texts = list(dict.fromkeys(text for of_stimulus in captions for text in of_stimulus))
        length = self.config["text_config"]["max_position_embeddings"]

        def embed(model: tuple[Any, Any], batch: tuple[list[int], int]) -> dict[str, FloatArray]:
            import torch

            (network, tokenizer), (rows, n) = model, batch
            batch_texts = [texts[i] for i in rows]
            tokenized = tokenizer(
                batch_texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            )
            with torch.inference_mode():
                out = network.text_model(input_ids=tokenized.input_ids, attention_mask=tokenized.attention_mask)
                return dict(zip(batch_texts[:n], network.text_projection(out.pooler_output).numpy()[:n], strict=True))

        embedded: dict[str, FloatArray] = {}
        for part in self._caption_passes.map(embed, list(passes(len(texts), CAPTION_BATCH))):
            embedded |= part
        return np.stack([np.mean([embedded[text] for text in of_stimulus], axis=0) for of_stimulus in captions])

    @cached_property
    def _image_passes(self) -> threads.Passes:
        return threads.Passes((self.network, None), [self.network])

    @cached_property
    def _caption_passes(self) -> threads.Passes:
        return threads.Passes((self.network, self.tokenizer), [self.network])

    @cached_property
    def network(self) -> Any:
        """The loaded model, in evaluation mode and float32."""
        import torch

        return modules.load(self.folder, configuration.CLIP, dtype=torch.float32)

    @cached_property
    def tokenizer(self) -> Any:
        """The loaded tokenizer."""
        return tokens.load(self.folder, configuration.CLIP, self.config["text_config"])


@dataclass(frozen=True)
class ImagePreparation:
    """How images are prepared for a model: the shortest side resized, the middle cut out, each channel standardised.

    Parameters
    ----------
    edge : int
        Length of the shortest side after resizing, in pixels.
    side : int
        Height and width of the cut-out, in pixels.
    mean, std : tuple of float
        Mean and standard deviation of red, green and blue, 0 to 1.
    resample : int
        Pillow's number of the filter.
    """

    edge: int
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: int

    @classmethod
    def read(cls, path: Path) -> ImagePreparation:
        """Read a `preprocessor_config.json`; raise `InputError` if it asks for something else."""
        config = configuration.small_json(path)
        steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
        try:
            edge, side = _length(config["size"], "shortest_edge"), _length(config["crop_size"], "height", "width")
            resample = int(Image.Resampling(config.get("resample", Image.Resampling.BICUBIC)))
            preparation = cls(edge, side, (*config["image_mean"],), (*config["image_std"],), resample)
            usual = all(config.get(step, True) for step in steps) and len(preparation.mean) == len(preparation.std) == 3
        except (KeyError, TypeError, ValueError, AttributeError):
            usual = False
        if not usual or preparation.side > preparation.edge:
            raise InputError(
                f"{path} is not the preparation of a CLIP model; expected `size` with the shortest edge, `crop_size` "
                "of a square within it, `image_mean` and `image_std`, and no step left out."
            )
        return preparation

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Prepare images (n, height, width, 3); return (n, 3, side, side)."""
        height, width = images.shape[1:3]
        shortest = min(height, width)
        size = int(self.edge * width / shortest), int(self.edge * height / shortest)
        resampling = Image.Resampling(self.resample)
        small = np.stack([np.asarray(Image.fromarray(image).resize(size, resampling)) for image in images])
        first_row, first_column = (size[1] - self.side) // 2, (size[0] - self.side) // 2
        cropped = (
            small[:, first_row : first_row + self.side, first_column : first_column + self.side].astype(np.float32)
            / 255
        )
        scaled = (cropped - np.array(self.mean, dtype=np.float32)) / np.array(self.std, dtype=np.float32)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _length(entry: Any, *keys: str) -> int:
    """Read one length that stands alone or, the same each time, under these keys."""
    (length,) = {entry[key] for key in keys} if isinstance(entry, dict) else {entry}
    return int(length)
