"""Images from latents: noising to a strength, and denoising with guidance."""

from __future__ import annotations

import torch

from latentcortex._ldm.codes import Conditioning, unconditional
from latentcortex._ldm.model import LatentDiffusion

Tensor = torch.Tensor


@torch.inference_mode()
def noised(model: LatentDiffusion, z: Tensor, noise: Tensor, *, n_own: int, n_steps: int) -> Tensor:
    """Noise latents (n, channels, h, w) to where the last `n_own` of `n_steps` denoising steps begin."""
    model.scheduler.set_timesteps(n_steps)
    x: Tensor = model.scheduler.add_noise(z, noise, model.scheduler.timesteps[n_steps - n_own][None])
    return x


@torch.inference_mode()
def denoised(
    model: LatentDiffusion, x: Tensor, c: Conditioning, *, n_own: int, n_steps: int, guidance: float
) -> Tensor:
    """Denoise latents with c through the last `n_own` of `n_steps` steps, without noise: DDIM (eta 0), or Euler.

    Parameters
    ----------
    model : LatentDiffusion
    x : Tensor of shape (n, channels, h, w)
    c : Conditioning
        Of n images.
    n_own, n_steps : int
    guidance : float
        How far each prediction goes from the one without text (`unconditional`) towards, and beyond, the one for c;
        1 is none.

    Returns
    -------
    Tensor of shape (n, channels, h, w)
    """
    model.scheduler.set_timesteps(n_steps)
    x = x.to(model.device)
    nothing = unconditional(model, pixels=c.pixels).repeat(len(x))
    for t in model.scheduler.timesteps[n_steps - n_own :]:
        predicted = _predicted(model, x, t, c)
        if guidance != 1:
            without = _predicted(model, x, t, nothing)
            predicted = without + guidance * (predicted - without)
        x = model.scheduler.step(predicted, t, x).prev_sample
    return x


def _predicted(model: LatentDiffusion, x: Tensor, t: Tensor, c: Conditioning) -> Tensor:
    out: Tensor = model.unet(x.to(model.dtype), t, **c.told(model)).sample.float()
    return out
