"""The parts of a latent diffusion model, loaded from a folder."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import DDIMScheduler

from latentcortex._ldm import flow
from latentcortex._ldm.folder import DiffusionFolder
from latentcortex._loading import configuration, modules
from latentcortex._shelf import unknown

logger = logging.getLogger(__name__)

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
    zeros : bool
        Whether zeros stand for the empty text where nothing is told, as the pipeline of the model does it.
    """

    vae: Any
    unet: Any
    texts: tuple[tuple[Any, Any], ...]
    scheduler: Any
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    zeros: bool = False

    @property
    def of_flow(self) -> bool:
        """Whether it is a flow-matching transformer, as Stable Diffusion 3 is."""
        return isinstance(self.unet, flow.Denoiser)

    @property
    def told_pooled(self) -> bool:
        """Whether the denoiser is also told the pooled text, as those of Stable Diffusion XL and 3 are."""
        return len(self.texts) > 1

    @property
    def modules(self) -> tuple[Any, ...]:
        """Everything in it that has weights."""
        denoiser = self.unet.transformer if self.of_flow else self.unet
        return self.vae, denoiser, *(encoder for _, encoder in self.texts)

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
        If the folder is not such a model, if any of its weights is missing, of another shape or not used, or if it
        follows a convention that is not known here.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    modules.check_device(device)
    layout = DiffusionFolder.read(folder).checked()
    kind, path = layout.kinds[layout.denoiser], folder / layout.denoiser
    vae = modules.load(folder / "vae", layout.kinds["vae"], dtype=torch.float32)
    if untrained is None:
        unet = modules.load(path, kind, dtype=DTYPES[dtype])
    else:
        unet = modules.untrained(path, kind, dtype=DTYPES[dtype], seed=untrained)
    texts = tuple(
        (layout.tokenizer(which), modules.load(folder / f"text_encoder{which}", of, dtype=DTYPES[dtype]))
        for which, of in layout.texts.items()
    )
    for one in (vae, unet, *(encoder for _, encoder in texts)):
        one.to(device)
    return LatentDiffusion(
        vae,
        flow.Denoiser(unet) if layout.of_flow else unet,
        texts,
        scheduler(layout),
        DTYPES[dtype],
        torch.device(device),
        layout.zeros,
    )


def scheduler(layout: DiffusionFolder) -> Any:
    """Make the scheduler of a model folder, which is as much as is needed to say how noisy a band is."""
    config = configuration.read_scheduler(layout.folder / "scheduler", of_flow=layout.of_flow)
    if layout.of_flow:
        return flow.Schedule(config)
    given = config["_class_name"], config.get("timestep_spacing", "leading")
    if given != (DDIMScheduler.__name__, "leading"):
        logger.info("The model's scheduler is %s, '%s'; here its noise is denoised by DDIM, 'leading'.", *given)
    # Built from the values that matter: from_config of another scheduler would take its own defaults for the rest.
    kept = {key: config[key] for key in (*configuration.BETAS, *OPTIONAL) if key in config}
    return DDIMScheduler(**kept, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading")


OPTIONAL: Final = ("trained_betas", "prediction_type", "rescale_betas_zero_snr")
"""What else of a scheduler changes a step."""
