"""The parts of a latent diffusion model, loaded from a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, DDIMScheduler, SD3Transformer2DModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from latentcortex._ldm import flow
from latentcortex._ldm.device import device_of
from latentcortex._shelf import unknown
from latentcortex.errors import InputError

PARTS: Final = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions of denoiser and text encoders; the autoencoder is float32 always, since float16 overflows in it."""


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """The parts of one model, in evaluation mode.

    Parameters
    ----------
    vae : AutoencoderKL
        In float32.
    unet : UNet2DConditionModel or flow.Denoiser
        The denoiser, of `dtype`: a U-Net, or a transformer that is called as one.
    texts : tuple of (tokenizer, text encoder)
        One, the two of Stable Diffusion XL, or the two of Stable Diffusion 3 with or without T5.
    scheduler : DDIMScheduler or flow.Schedule
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
    def of_flow(self) -> bool:
        """Whether it is a flow-matching transformer, as Stable Diffusion 3 is."""
        return isinstance(self.unet, flow.Denoiser)

    @property
    def told_pooled(self) -> bool:
        """Whether the denoiser is also told the pooled text, as those of Stable Diffusion XL and 3 are."""
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
    """Load a model folder in the layout of Stable Diffusion (1.x, 2.x, XL, 3.x), offline.

    A folder with `transformer` in place of `unet` is one of Stable Diffusion 3; its T5 (`text_encoder_3` and
    `tokenizer_3`) may be left out.

    Parameters
    ----------
    folder : Path
    dtype : {"float32", "bfloat16", "float16"}
        Of denoiser and text encoders.
    device : str
        For example `cpu`, `cuda`, `mps`.
    untrained : int, optional
        Give the denoiser random weights by this seed instead of its own: the baseline of the same architecture.

    Raises
    ------
    InputError
        If the folder is not such a model, or has no safetensors, or this machine has no such device.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    place = device_of(device)
    of_flow = (folder / "transformer").is_dir()
    wanted = (*flow.PARTS, *(_there(folder, flow.THIRD))) if of_flow else PARTS
    missing = [part for part in wanted if not (folder / part).is_dir()]
    if missing:
        raise InputError(f"{folder} is not a latent diffusion model: no {', '.join(missing)} in it.")
    options: dict[str, Any] = {"local_files_only": True, "dtype": DTYPES[dtype], "use_safetensors": True}
    kind, part = (SD3Transformer2DModel, "transformer") if of_flow else (UNet2DConditionModel, "unet")
    with _quiet():
        try:
            vae = AutoencoderKL.from_pretrained(
                folder / "vae", low_cpu_mem_usage=False, **{**options, "dtype": torch.float32}
            )
            unet = _denoiser(kind, folder / part, options, untrained)
            texts = _texts(folder, options, of_flow=of_flow)
            config = DDIMScheduler.load_config(folder / "scheduler", local_files_only=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from None
        scheduler = flow.Schedule(config) if of_flow else _scheduler(config)
    for one in (vae, unet, *(encoder for _, encoder in texts)):
        one.eval().requires_grad_(False).to(place)
    unet = flow.Denoiser(unet) if of_flow else unet
    return LatentDiffusion(vae, unet, texts, scheduler, DTYPES[dtype], place)


def _there(folder: Path, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Want all parts that belong together if one of them is there."""
    return parts if any((folder / part).is_dir() for part in parts) else ()


def _denoiser(kind: Any, folder: Path, options: Mapping[str, Any], untrained: int | None) -> Any:
    if untrained is None:
        # Not every class of diffusers takes the precision that it is asked for when it is loaded whole.
        return kind.from_pretrained(folder, low_cpu_mem_usage=False, **options).to(options["dtype"])
    config = kind.load_config(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(untrained)
        return kind.from_config(config).to(options["dtype"])


def _texts(folder: Path, options: Mapping[str, Any], *, of_flow: bool) -> tuple[tuple[Any, Any], ...]:
    """Load tokenizers and text encoders, as many as there are."""
    kinds: dict[str, Any] = {
        "": CLIPTextModelWithProjection if of_flow else CLIPTextModel,
        "_2": CLIPTextModelWithProjection,
    }
    kinds |= {"_3": T5EncoderModel} if of_flow else {}
    return tuple(
        (
            (T5Tokenizer if kind is T5EncoderModel else CLIPTokenizer).from_pretrained(
                folder / f"tokenizer{which}", local_files_only=True
            ),
            kind.from_pretrained(folder / f"text_encoder{which}", **options),
        )
        for which, kind in kinds.items()
        if all((folder / f"{part}{which}").is_dir() for part in ("text_encoder", "tokenizer"))
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
