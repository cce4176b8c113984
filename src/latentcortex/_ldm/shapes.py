"""What shape every module of a denoiser gives, without weights and without computing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from latentcortex._ldm import flow
from latentcortex._loading import configuration, modules
from latentcortex.errors import InputError


def layer_shapes(
    config: Mapping[str, Any], latent: tuple[int, int, int], layers: Collection[str], *, of_flow: bool = False
) -> dict[str, tuple[int, ...]]:
    """Find the shape of the output of each of these modules for one image.

    Parameters
    ----------
    config : mapping
        Of the U-Net or the transformer.
    latent : (n_channels, height, width)
    layers : collection of str
        Names of modules.
    of_flow : bool
        Whether it is a flow-matching transformer.

    Returns
    -------
    dict of str to tuple of int
        Without the axis of images.

    Raises
    ------
    InputError
        If the denoiser has no such module, or never calls it.
    """
    with torch.device("meta"):
        denoiser, told = _transformer(config) if of_flow else _unet(config)
        x, t = torch.empty((1, *latent)), torch.tensor(1)
    modules = dict(denoiser.named_modules())
    missing = [layer for layer in layers if layer not in modules]
    if missing:
        name, blocks = (
            ("transformer", "transformer_blocks") if of_flow else ("U-Net", "down_blocks, mid_block, up_blocks")
        )
        raise InputError(f"The {name} has no module {missing[0]!r}; its blocks are {blocks}.")
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(layer: str) -> Any:
        def hook(module: Any, _inputs: Any, output: Any) -> None:
            shapes[layer] = tuple(flow.of_image(module, output).shape[1:])

        return hook

    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        denoiser(x, t, **told)
    finally:
        for handle in handles:
            handle.remove()
    silent = [layer for layer in layers if layer not in shapes]
    if silent:
        raise InputError(f"Module {silent[0]!r} is never called, and gives nothing; name one inside it.")
    return shapes


def _unet(config: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Make a U-Net, and what it is told of one image."""
    unet = modules.empty(configuration.UNET, dict(config), "The configuration of the denoiser")
    told: dict[str, Any] = {"encoder_hidden_states": torch.empty((1, 4, unet.config.cross_attention_dim))}
    if unet.config.addition_embed_type == "text_time":
        ids, width = 6, unet.config.projection_class_embeddings_input_dim
        pooled = width - ids * unet.config.addition_time_embed_dim
        told["added_cond_kwargs"] = {"text_embeds": torch.empty((1, pooled)), "time_ids": torch.empty((1, ids))}
    return unet, told


def _transformer(config: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Make a flow-matching transformer, and what it is told of one image."""
    transformer = modules.empty(configuration.TRANSFORMER, dict(config), "The configuration of the denoiser")
    denoiser = flow.Denoiser(transformer)
    states = torch.empty((1, 4, denoiser.config.joint_attention_dim))
    pooled = torch.empty((1, denoiser.config.pooled_projection_dim))
    return denoiser, {"encoder_hidden_states": states, "pooled_projections": pooled}
