"""Images and captions as the model sees them, and back: z, c, and what the denoiser is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from latentcortex._ldm import flow
from latentcortex._ldm.model import LatentDiffusion

Tensor = torch.Tensor

CAPTIONS: Final = 64
"""Captions per pass of the text encoder."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What the denoiser is told of each image besides the latent.

    Parameters
    ----------
    states : Tensor of shape (n, n_tokens, width)
        Hidden states of the captions, averaged over captions; both encoders' side by side in SDXL, and followed by
        those of T5 in Stable Diffusion 3.
    pooled : Tensor of shape (n, pooled_width), optional
        The averaged pooled text of SDXL's second encoder, or of both CLIP encoders of Stable Diffusion 3.
    pixels : int
        Height and width that SDXL is told.
    """

    states: Tensor
    pooled: Tensor | None = None
    pixels: int = 0

    def repeat(self, n: int) -> Conditioning:
        """Put n copies below each other."""
        pooled = None if self.pooled is None else self.pooled.repeat(n, 1)
        return Conditioning(self.states.repeat(n, 1, 1), pooled, self.pixels)

    def told(self, model: LatentDiffusion) -> dict[str, Any]:
        """Make the denoiser's keyword arguments, in its precision."""
        told: dict[str, Any] = {"encoder_hidden_states": self.states.to(model.device, model.dtype)}
        if self.pooled is not None and model.of_flow:
            told["pooled_projections"] = self.pooled.to(model.device, model.dtype)
        elif self.pooled is not None:
            # Original size, corner of the crop, target size: the whole image at its own size.
            size = [self.pixels, self.pixels, 0, 0, self.pixels, self.pixels]
            ids = torch.tensor([size] * len(self.pooled), device=model.device, dtype=model.dtype)
            told["added_cond_kwargs"] = {"text_embeds": self.pooled.to(model.device, model.dtype), "time_ids": ids}
        return told


@torch.inference_mode()
def encode_images(model: LatentDiffusion, images: np.ndarray[Any, Any], noise: Tensor | None = None) -> Tensor:
    """Encode uint8 images (n, height, width, 3) to z (n, channels, h, w), shifted and scaled, in float32.

    The posterior mean; with `noise` of z's shape a sample of the posterior, mean + standard deviation * noise.
    """
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    posterior = model.vae.encode(x.to(model.device)).latent_dist
    z: Tensor = posterior.mode() if noise is None else posterior.mean + posterior.std * noise.to(model.device)
    z = (z - _shift(model)) * model.vae.config.scaling_factor
    return z


def _shift(model: LatentDiffusion) -> float:
    """Find what is taken off latents before they are scaled; 0 before Stable Diffusion 3."""
    return float(model.vae.config.shift_factor or 0.0)


def encode_captions(model: LatentDiffusion, captions: Sequence[tuple[str, ...]]) -> Tensor:
    """Encode each image's captions to c (n, n_tokens, width): the mean of their last hidden states."""
    return condition(model, captions, pixels=0).states


@torch.inference_mode()
def condition(
    model: LatentDiffusion, captions: Sequence[tuple[str, ...]], *, pixels: int, layer: int | None = None
) -> Conditioning:
    """Encode each image's captions, averaged over them, in float32.

    Captions are encoded in padded batches of one size, so that c does not depend on which others are asked
    for. An image without captions gets the embedding of the empty text.

    Parameters
    ----------
    model : LatentDiffusion
    captions : sequence of tuple of str
        Of each image.
    pixels : int
        Height and width, which SDXL is told.
    layer : int, optional
        Hidden state of the (first) text encoder after so many of its layers, without the last normalisation; by
        default what the denoiser is given: the last hidden state; SDXL's last but one of both encoders; those,
        and T5's last, in Stable Diffusion 3, where zeros stand for a T5 that is left out.

    Returns
    -------
    Conditioning
    """
    texts = list(dict.fromkeys(text for known in captions for text in (known or ("",))))
    embedded: dict[str, tuple[Tensor, ...]] = {}
    for start in range(0, len(texts), CAPTIONS):
        batch = texts[start : start + CAPTIONS]
        found = _embedded(model, batch + [""] * (CAPTIONS - len(batch)), layer)
        embedded |= dict(zip(batch, zip(*found, strict=True), strict=False))
    means = [
        torch.stack([torch.stack([embedded[t][part] for t in (known or ("",))]).mean(0) for known in captions])
        for part in range(len(next(iter(embedded.values()))))
    ]
    return Conditioning(means[0], means[1] if model.told_pooled else None, pixels)


def unconditional(model: LatentDiffusion, *, pixels: int) -> Conditioning:
    """Say what the denoiser is told of an image where it is told nothing, as the pipeline of the model does it.

    That is the empty text, encoded; zeros in Stable Diffusion XL, unless the model's index says otherwise.
    """
    empty = condition(model, [()], pixels=pixels)
    if not model.zeros:
        return empty
    return Conditioning(torch.zeros_like(empty.states), torch.zeros_like(_present(empty.pooled)), pixels)


def _present(value: Tensor | None) -> Tensor:
    return torch.empty(0) if value is None else value


@torch.inference_mode()
def pooled(model: LatentDiffusion, captions: Sequence[tuple[str, ...]]) -> Tensor:
    """Encode each image's captions to one vector, (n, width): the mean over them of the pooled text."""
    if model.told_pooled:
        return _present(condition(model, captions, pixels=0).pooled)
    means = []
    for known in captions:
        texts = [*(known or ("",))]
        padded = texts + [""] * (-len(texts) % 8)
        output = model.text_encoder(_tokens(model.tokenizer, padded, model)).pooler_output.float()
        means.append(output[: len(texts)].mean(0))
    return torch.stack(means)


def _embedded(model: LatentDiffusion, texts: Sequence[str], layer: int | None) -> list[Tensor]:
    """Encode texts: hidden states, and pooled text if the denoiser is told it."""
    if not model.told_pooled and layer is None:
        ((tokenizer, encoder),) = model.texts
        return [encoder(_tokens(tokenizer, texts, model)).last_hidden_state.float()]
    outputs = [
        encoder(_tokens(tokenizer, texts, model), output_hidden_states=True) for tokenizer, encoder in model.texts[:2]
    ]
    if layer is not None:
        states = outputs[0].hidden_states[layer]
    else:
        states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        states = flow.joined(states, _t5(model, texts, states)) if model.of_flow else states
    if not model.told_pooled:
        return [states.float()]
    told = outputs if model.of_flow else outputs[-1:]
    return [states.float(), torch.cat([output.text_embeds for output in told], dim=-1).float()]


def _t5(model: LatentDiffusion, texts: Sequence[str], like: Tensor) -> Tensor:
    """Encode texts with T5, (n, n_tokens, width); without one, zeros."""
    if len(model.texts) < 3:
        return like.new_zeros((len(texts), flow.T5_TOKENS, model.unet.config.joint_attention_dim))
    tokenizer, encoder = model.texts[2]
    states: Tensor = encoder(_tokens(tokenizer, texts, model, flow.T5_TOKENS)).last_hidden_state.to(like.dtype)
    return states


def _tokens(tokenizer: Any, texts: Sequence[str], model: LatentDiffusion, n_tokens: int = 0) -> Tensor:
    longest = n_tokens or tokenizer.model_max_length
    tokens = tokenizer(list(texts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
    ids: Tensor = tokens.input_ids.to(model.device)
    return ids


@torch.inference_mode()
def decode(model: LatentDiffusion, z: Tensor) -> np.ndarray[Any, Any]:
    """Decode latents to uint8 images (n, height, width, 3); values outside 0..255 are clipped."""
    unscaled = z.to(model.device, torch.float32) / model.vae.config.scaling_factor + _shift(model)
    x = model.vae.decode(unscaled).sample
    out: np.ndarray[Any, Any] = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return out
