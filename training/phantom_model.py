"""Train the phantom's latent diffusion model from scratch, on procedurally drawn scenes with captions.

    python training/phantom_model.py vae  --out build/phantom
    python training/phantom_model.py unet --out build/phantom
    python training/phantom_model.py export --out build/phantom --to src/latentcortex/datasets/phantom/model

The parts are of the same classes as Stable Diffusion's: AutoencoderKL, UNet2DConditionModel with
cross-attention, CLIPTextModel with its tokenizer, DDIMScheduler. Every stage is seeded; `unet` resumes
from its last checkpoint. What the model can do is measured by `training/phantom_card.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from latentcortex.datasets.phantom import scenes

POOL = 24_000  # scenes to train on; study stimuli are drawn from another stream
TEXT_LENGTH = 16
TEXT_WIDTH = 96


def pool_scene(index: int) -> tuple[np.ndarray, list[str]]:
    """Draw training scene `index`: its image and its captions."""
    rng = np.random.default_rng([20261120, 1, index])
    scene = scenes.draw_scene(rng)
    return scenes.render(scene, rng), scenes.captions(scene, rng)


def pool_images() -> torch.Tensor:
    """Draw all training images, uint8 (n, 3, 64, 64)."""
    return torch.from_numpy(np.stack([pool_scene(i)[0] for i in range(POOL)])).permute(0, 3, 1, 2).contiguous()


def to_model(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 127.5 - 1.0


def learning_rate(step: int, n_steps: int, peak: float, warmup: int = 200) -> float:
    """Warm up linearly, then follow half a cosine down to 2 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, n_steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


# ---------------------------------------------------------------------------------------------- parts


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=scenes.PIXELS,
    )


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=scenes.PIXELS // 8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # historic naming: the number of heads
        norm_num_groups=16,
    )


def make_scheduler() -> DDIMScheduler:
    """Make a cosine schedule: SD's own destroys an 8 x 8 latent, which has little redundancy, too early."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def make_tokenizer() -> CLIPTokenizer:
    """Make a byte-pair vocabulary in which every word of the captions is one token."""
    words = [*scenes.WORDS, *(word for group in scenes.ATTRIBUTES.values() for word in group)]
    split = {word: [*word[:-1], word[-1] + "</w>"] for word in dict.fromkeys(words)}
    letters = sorted({chr(c) for c in range(ord("a"), ord("z") + 1)})
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    while any(len(parts) > 1 for parts in split.values()):
        pairs = Counter(pair for parts in split.values() for pair in pairwise(parts))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        tokens.append("".join(best))
        split = {word: merged(parts, best) for word, parts in split.items()}
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)


def merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    end = tokenizer.eos_token_id
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    return tokenizer(
        texts, padding="max_length", max_length=TEXT_LENGTH, truncation=False, return_tensors="pt"
    ).input_ids


# ------------------------------------------------------------------------------------------- training


def train_vae(out: Path, n_steps: int, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    images = pool_images()
    vae = make_vae()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=1e-4)
    started, log = time.process_time(), []
    for step in range(n_steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, n_steps, 1.5e-3)
        x = to_model(images[torch.randint(POOL, (batch,))])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.sample()).sample
        error = y.float() - x
        loss = error.abs().mean() + 2.0 * error.square().mean() + 1e-5 * posterior.kl().mean() / 256
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        log.append(error.detach().square().mean().item())
        if step % 100 == 99:
            psnr = 10 * math.log10(4 / np.mean(log[-100:]))
            print(
                f"vae step {step + 1} psnr {psnr:.2f} dB, {time.process_time() - started:.0f} CPU s",
                flush=True,
            )
    latents = encode_all(vae, images)
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(out / "vae")
    save_file({"latents": latents * vae.config.scaling_factor}, out / "latents.safetensors")
    write_log(out, "vae", n_steps, batch, time.process_time() - started, psnr=psnr)


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    parts = [vae.encode(to_model(x)).latent_dist.mode() for x in images.split(256)]
    return torch.cat(parts).contiguous()


def train_unet(out: Path, n_steps: int, batch: int, seed: int) -> None:
    """Train U-Net and text encoder jointly; every fourth step is conditioned on the mean over five captions."""
    latents = load_file(out / "latents.safetensors")["latents"]
    tokenizer = make_tokenizer()
    tokens = torch.stack([tokenize(tokenizer, pool_scene(i)[1]) for i in range(POOL)])
    empty = tokenize(tokenizer, [""])
    torch.manual_seed(seed)
    unet, text, scheduler = (
        make_unet().to(memory_format=torch.channels_last),
        make_text_encoder(tokenizer),
        make_scheduler(),
    )
    model = torch.nn.ModuleDict({"unet": unet, "text": text})
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2, betas=(0.9, 0.99))
    first = resume(out, model, average, optimiser)
    before = 60 * json.loads((out / "unet.json").read_text())["cpu_minutes"] if first else 0.0
    started, log = time.process_time() - before, []
    for step in range(first, n_steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, n_steps, 1e-3)
        rows = torch.randint(POOL, (batch,), generator=generator)
        c = condition(text, tokens[rows], empty, mean=step % 4 == 3, generator=generator)
        z = latents[rows]
        noise = torch.randn(z.shape, generator=generator)
        t = torch.randint(1000, (batch,), generator=generator)
        target = scheduler.get_velocity(z, noise, t)
        loss = (unet(scheduler.add_noise(z, noise, t), t, c).sample - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        keep = min(0.9995, (step + 1) / (step + 10))
        for name, p in model.named_parameters():
            average[name].lerp_(p.detach(), 1 - keep)
        log.append(loss.item())
        if step % 100 == 99:
            print(
                f"unet step {step + 1} loss {np.mean(log[-100:]):.4f}, {time.process_time() - started:.0f} CPU s",
                flush=True,
            )
        if step % 500 == 499 or step == n_steps - 1:
            checkpoint(out, step + 1, model, average, optimiser)
            write_log(out, "unet", step + 1, batch, time.process_time() - started, loss=float(np.mean(log[-500:])))


def condition(
    text: CLIPTextModel, tokens: torch.Tensor, empty: torch.Tensor, *, mean: bool, generator: torch.Generator
) -> torch.Tensor:
    """Encode one caption per image, or the mean over its five; 12 % of images get the empty caption."""
    n, n_captions, length = tokens.shape
    dropped = torch.rand(n, generator=generator) < 0.12
    if mean:
        c = text(tokens.reshape(-1, length)).last_hidden_state.reshape(n, n_captions, length, -1).mean(1)
        nothing = text(empty).last_hidden_state
        return torch.where(dropped[:, None, None], nothing, c)
    chosen = tokens[torch.arange(n), torch.randint(n_captions, (n,), generator=generator)]
    return text(torch.where(dropped[:, None], empty, chosen)).last_hidden_state


def checkpoint(
    out: Path,
    step: int,
    model: torch.nn.Module,
    average: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    names = [name for name, _ in model.named_parameters()]
    state = optimiser.state_dict()["state"]
    tensors = {f"model/{k}": p.detach().contiguous() for k, p in model.named_parameters()}
    tensors |= {f"average/{k}": p.contiguous() for k, p in average.items()}
    for i, name in enumerate(names):
        tensors |= {f"{key}/{name}": state[i][key].contiguous() for key in ("exp_avg", "exp_avg_sq")}
    tensors["step"] = torch.tensor(step)
    save_file(tensors, out / "unet-new.safetensors")
    (out / "unet-new.safetensors").replace(out / "unet.safetensors")


def resume(
    out: Path, model: torch.nn.Module, average: dict[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> int:
    """Load the last checkpoint, if there is one; return the step it reached."""
    if not (out / "unet.safetensors").exists():
        return 0
    saved = load_file(out / "unet.safetensors")
    step = int(saved["step"])
    for name, p in model.named_parameters():
        p.data.copy_(saved[f"model/{name}"])
        average[name].copy_(saved[f"average/{name}"])
        optimiser.state[p] = {
            "step": torch.tensor(float(step)),
            "exp_avg": saved[f"exp_avg/{name}"].clone(),
            "exp_avg_sq": saved[f"exp_avg_sq/{name}"].clone(),
        }
    return step


def write_log(out: Path, stage: str, step: int, batch: int, cpu_seconds: float, **numbers: float) -> None:
    entry = {"steps": step, "batch": batch, "cpu_minutes": round(cpu_seconds / 60, 1), **numbers}
    (out / f"{stage}.json").write_text(json.dumps(entry, indent=2))


# --------------------------------------------------------------------------------------------- export


def export(out: Path, to: Path) -> None:
    """Write the averaged weights in fp16 as a folder in the layout of Stable Diffusion."""
    saved = load_file(out / "unet.safetensors")
    tokenizer = make_tokenizer()
    parts = {"unet": make_unet(), "text": make_text_encoder(tokenizer)}
    for part, module in parts.items():
        for name, p in module.named_parameters():
            p.data.copy_(saved[f"average/{part}.{name}"])
    vae = AutoencoderKL.from_pretrained(out / "vae", local_files_only=True)
    tokenizer.save_pretrained(to / "tokenizer")
    make_scheduler().save_pretrained(to / "scheduler")
    vae.half().save_pretrained(to / "vae")
    parts["unet"].half().save_pretrained(to / "unet")
    parts["text"].half().save_pretrained(to / "text_encoder")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.38.0",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (to / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["vae", "unet", "export"])
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--to", type=Path, help="folder for the exported model")
    parser.add_argument("--steps", type=int, help="default: 3500 for vae, 6500 for unet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.stage == "vae":
        train_vae(arguments.out, arguments.steps or 3500, 16, arguments.seed)
    elif arguments.stage == "unet":
        train_unet(arguments.out, arguments.steps or 6_500, 64, arguments.seed)
    else:
        export(arguments.out, arguments.to)


if __name__ == "__main__":
    main()
