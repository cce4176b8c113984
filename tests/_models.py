"""Small models of Stable Diffusion XL's and 3's classes with random weights, and changes of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import diffusers
import torch
import transformers

SHIFT, SCALE = 0.3, 1.4


def linked(source: Path, folder: Path) -> Path:
    """Copy a model by hard links: what changes a file must replace it."""
    return Path(shutil.copytree(source, folder, copy_function=os.link))


def changed(source: Path, folder: Path, part: str, **values: object) -> Path:
    """Copy a model with other values in a part's configuration."""
    linked(source, folder)
    (path,) = (path for path in (folder / part).glob("*config.json") if path.name != "tokenizer_config.json")
    content = {**json.loads(path.read_text()), **values}
    path.unlink()
    path.write_text(json.dumps(content))
    return folder


def small_xl(folder: Path, tiny_model: Path) -> Path:
    """Save a small model of SDXL's classes: two text encoders, pooled text and sizes told to the U-Net."""
    for part in ("vae", "scheduler", "tokenizer"):
        (folder / part).symlink_to(tiny_model / part)
    (folder / "tokenizer_2").symlink_to(tiny_model / "tokenizer")
    torch.manual_seed(0)
    diffusers.UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=12 + 20,
        attention_head_dim=2,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 10,
    ).save_pretrained(folder / "unet")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    ends = dict.fromkeys(("eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    for part, kind, width in (
        ("text_encoder", transformers.CLIPTextModel, 12),
        ("text_encoder_2", transformers.CLIPTextModelWithProjection, 20),
    ):
        config = transformers.CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=16,
            projection_dim=10,
            bos_token_id=tokenizer.bos_token_id,
            **ends,
        )
        kind(config).save_pretrained(folder / part)
    return folder


def small_t5(folder: Path) -> None:
    """Save a small T5 encoder, its tokenizer a vocabulary of letters."""
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0) for piece in ("\u2581", *letters))]
    transformers.T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(folder / "tokenizer_3")
    config = transformers.T5Config(
        vocab_size=len(pieces), d_model=40, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    transformers.T5EncoderModel(config).save_pretrained(folder / "text_encoder_3")


def small_clip(folder: Path, which: str, width: int) -> None:
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / f"tokenizer{which}")
    end = tokenizer.eos_token_id
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=width // 2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=end,
    )
    transformers.CLIPTextModelWithProjection(config).save_pretrained(folder / f"text_encoder{which}")


def small_flow(folder: Path, tiny_model: Path) -> Path:
    """Save a model of Stable Diffusion 3's classes, with T5, for images of 16 x 16 and patches of 2 x 2 of 8 x 8."""
    for which in ("", "_2"):
        shutil.copytree(tiny_model / "tokenizer", folder / f"tokenizer{which}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        diffusers.AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            block_out_channels=(8, 8),
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=4,
            sample_size=16,
            scaling_factor=SCALE,
            shift_factor=SHIFT,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ).save_pretrained(folder / "vae")
        diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            num_layers=3,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=40,
            caption_projection_dim=16,
            pooled_projection_dim=6 + 10,
            out_channels=16,
            pos_embed_max_size=8,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ).save_pretrained(folder / "transformer")
        small_clip(folder, "", 12)
        small_clip(folder, "_2", 20)
        small_t5(folder)
    diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    return folder
