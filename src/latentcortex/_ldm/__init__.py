"""A latent diffusion model in parts, and its trajectory from image to image. torch stays in here."""

from latentcortex._ldm.codes import (
    Conditioning,
    condition,
    decode,
    encode_captions,
    encode_images,
    pooled,
    unconditional,
)
from latentcortex._ldm.flow import T5_TOKENS
from latentcortex._ldm.folder import DiffusionFolder
from latentcortex._ldm.model import DTYPES, LatentDiffusion, load, scheduler
from latentcortex._ldm.sampling import denoised, noised
from latentcortex._ldm.shapes import layer_shapes
from latentcortex._ldm.trajectory import STARTS, Tap, Trajectory, beginnings, n_steps_of, step_index, trajectory

__all__ = [
    "DTYPES",
    "STARTS",
    "T5_TOKENS",
    "Conditioning",
    "DiffusionFolder",
    "LatentDiffusion",
    "Tap",
    "Trajectory",
    "beginnings",
    "condition",
    "decode",
    "denoised",
    "encode_captions",
    "encode_images",
    "layer_shapes",
    "load",
    "n_steps_of",
    "noised",
    "pooled",
    "scheduler",
    "step_index",
    "trajectory",
    "unconditional",
]
