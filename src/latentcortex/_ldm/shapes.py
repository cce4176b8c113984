"""What shape every module of a U-Net gives, without weights and without computing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from latentcortex.errors import InputError


def layer_shapes(
    config: Mapping[str, Any], latent: tuple[int, int, int], layers: Collection[str]
) -> dict[str, tuple[int, ...]]:
    """Find the shape of the output of each of these modules for one image.

    Parameters
    ----------
    config : mapping
        Of the U-Net.
    latent : (n_channels, height, width)
    layers : collection of str
        Names of modules.

    Returns
    -------
    dict of str to tuple of int
        Without the axis of images.

    Raises
    ------
    InputError
        If the U-Net has no such module.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(config))
        x, t = torch.empty((1, *latent)), torch.tensor(1)
        told: dict[str, Any] = {"encoder_hidden_states": torch.empty((1, 4, unet.config.cross_attention_dim))}
        if unet.config.addition_embed_type == "text_time":
            ids, width = 6, unet.config.projection_class_embeddings_input_dim
            pooled = width - ids * unet.config.addition_time_embed_dim
            told["added_cond_kwargs"] = {"text_embeds": torch.empty((1, pooled)), "time_ids": torch.empty((1, ids))}
    known = dict(unet.named_modules())
    missing = [layer for layer in layers if layer not in known]
    if missing:
        raise InputError(f"The U-Net has no module {missing[0]!r}; its blocks are down_blocks, mid_block, up_blocks.")
    found: dict[str, tuple[int, ...]] = {}

    def keep(layer: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            found[layer] = tuple((output[0] if isinstance(output, tuple) else output).shape[1:])

        return hook

    handles = [known[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        unet(x, t, **told)
    finally:
        for handle in handles:
            handle.remove()
    return found
