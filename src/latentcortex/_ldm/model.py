"""The parts of a latent diffusion model, loaded from a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from latentcortex._shelf import unknown
from latentcortex.errors import InputError

PARTS: Final = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
SECOND: Final = ("text_encoder_2", "tokenizer_2")
"""Parts that Stable Diffusion XL has besides."""
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions of the U-Net and the text encoders; the autoencoder is float32 always, since float16 overflows in it."""


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """The parts of one model, in evaluation mode.

    Parameters
    ----------
    vae, unet : diffusers models
        The autoencoder is float32, the U-Net of `dtype`.
    texts : tuple of (tokenizer, text encoder)
        One, or the two of Stable Diffusion XL.
    scheduler : DDIMScheduler
        Deterministic, without clipping.
    dtype : torch.dtype
    device : torch.device
    """

    vae: Any
    unet: Any
    texts: tuple[tuple[Any, Any], ...]
    scheduler: Any
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def extra_large(self) -> bool:
        """Whether the U-Net is also told the pooled text and the size of the image, as that of SDXL is."""
        return len(self.texts) > 1

    @property
    def tokenizer(self) -> Any:
        """The first tokenizer."""
        return self.texts[0][0]

    @property
    def text_encoder(self) -> Any:
        """The first text encoder."""
        return self.texts[0][1]


def load(folder: Path, *, dtype: str = "float32", device: str = "cpu", untrained: int | None = None) -> LatentDiffusion:
    """Load a model folder in the layout of Stable Diffusion (1.x, 2.x, XL), offline.

    Parameters
    ----------
    folder : Path
    dtype : {"float32", "bfloat16", "float16"}
        Of U-Net and text encoders.
    device : str
        For example `cpu`, `cuda`, `mps`.
    untrained : int, optional
        Give the U-Net random weights by this seed instead of its own: the baseline of the same architecture.

    Raises
    ------
    InputError
        If the folder is not such a model, or has no safetensors.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise InputError(f"{folder} is not a latent diffusion model: no {', '.join(missing)} in it.")
    large = all((folder / part).is_dir() for part in SECOND)
    options: dict[str, Any] = {"local_files_only": True, "dtype": DTYPES[dtype], "use_safetensors": True}
    with _quiet():
        try:
            vae = AutoencoderKL.from_pretrained(
                folder / "vae", low_cpu_mem_usage=False, **{**options, "dtype": torch.float32}
            )
            unet = _unet(folder, options, untrained)
            texts = [_text(folder, "tokenizer", "text_encoder", CLIPTextModel, options)]
            if large:
                texts.append(_text(folder, "tokenizer_2", "text_encoder_2", CLIPTextModelWithProjection, options))
            config = DDIMScheduler.load_config(folder / "scheduler", local_files_only=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from None
    for part in (vae, unet, *(encoder for _, encoder in texts)):
        part.eval().requires_grad_(False).to(device)
    return LatentDiffusion(vae, unet, tuple(texts), _scheduler(config), DTYPES[dtype], torch.device(device))


def _unet(folder: Path, options: Mapping[str, Any], untrained: int | None) -> Any:
    if untrained is None:
        return UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False, **options)
    config = UNet2DConditionModel.load_config(folder / "unet", local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(untrained)
        return UNet2DConditionModel.from_config(config).to(options["dtype"])


def _text(folder: Path, tokenizer: str, encoder: str, kind: Any, options: Mapping[str, Any]) -> tuple[Any, Any]:
    return (
        CLIPTokenizer.from_pretrained(folder / tokenizer, local_files_only=True),
        kind.from_pretrained(folder / encoder, **options),
    )


def _scheduler(config: Mapping[str, Any]) -> Any:
    # Built from the values that matter: from_config of another scheduler would take its own defaults for the rest.
    return DDIMScheduler.from_config(
        config, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep loaders from drawing bars and from asking the network."""
    import diffusers.utils.logging as of_diffusers
    import transformers.utils.logging as of_transformers

    before = of_diffusers.get_verbosity(), of_transformers.get_verbosity()
    network = os.environ.get("HF_HUB_OFFLINE")
    of_diffusers.set_verbosity_error()
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        of_diffusers.set_verbosity(before[0])
        of_transformers.set_verbosity(before[1])
        of_transformers.enable_progress_bar()
        os.environ.pop("HF_HUB_OFFLINE")
        if network is not None:
            os.environ["HF_HUB_OFFLINE"] = network
