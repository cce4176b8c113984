"""Features of all four analyses: one pass over the trajectory against the pipeline of diffusers once per condition.

Both give z_c at every strength and step and the outputs of five U-Net blocks at three steps. The pipeline is called
once for each strength, and once more for each further step of z_c and of the layers, as one would with its callback and
with forward hooks; it denoises to the end each time. Ours is `latentcortex._ldm.trajectory`, in the same batches.

Run it from the root of the repository:

    python benchmarks/extraction.py --images 25 --n-steps 10

`--model` takes a folder in the layout of Stable Diffusion, or `full-size`: the architecture of Stable Diffusion 1.4
with random weights, latents and text embeddings. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch

from latentcortex import _ldm
from latentcortex.datasets.phantom import Phantom
from latentcortex.executors import n_cores
from latentcortex.extractors.ldm import LDM

SEED = 5
FULL_SIZE = "full-size"
CONFIGURATION = Path(__file__).parents[1] / "examples" / "stable_diffusion_1_4"


@dataclass(frozen=True, eq=False)
class Case:
    """A model, latents and captions' embeddings of some images."""

    extractor: LDM
    model: _ldm.LatentDiffusion
    z: torch.Tensor
    c: _ldm.Conditioning

    @classmethod
    def of(cls, name: str, n_images: int, n_steps: int) -> Case:
        """Encode images of the phantom, or draw at random what a full-size model would make of some."""
        if name == FULL_SIZE:
            return cls._full_size(n_images, n_steps)
        extractor, stimuli = (
            LDM(name, n_steps=n_steps),
            Phantom().stimuli().select_stimuli(Phantom().stimuli().ids[:n_images]),
        )
        z = _ldm.encode_images(extractor.parts, extractor._resized(stimuli.images(stimuli.ids)))
        c = _ldm.condition(extractor.parts, stimuli.captions(stimuli.ids), pixels=extractor.pixels)
        return cls(extractor, extractor.parts, z, c)

    @classmethod
    def _full_size(cls, n_images: int, n_steps: int) -> Case:
        extractor = LDM(str(CONFIGURATION), n_steps=n_steps)
        torch.manual_seed(SEED)
        parts = [
            kind.from_config(json.loads((CONFIGURATION / part / "config.json").read_text()))
            for part, kind in (("vae", diffusers.AutoencoderKL), ("unet", diffusers.UNet2DConditionModel))
        ]
        for part in parts:
            part.eval().requires_grad_(False)
        betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
        scheduler = diffusers.DDIMScheduler(**betas, clip_sample=False, set_alpha_to_one=False)
        model = _ldm.LatentDiffusion(*parts, ((None, None),), scheduler)
        states = torch.randn(n_images, 77, parts[1].config.cross_attention_dim)
        return cls(extractor, model, torch.randn(n_images, *extractor.latent), _ldm.Conditioning(states))


class Counted:
    """A U-Net's calls and rows."""

    def __init__(self, unet: Any) -> None:
        self.calls = self.rows = 0
        self._handle = unet.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.calls += 1
        self.rows += len(inputs[0] if inputs else options["sample"])

    def taken(self) -> dict[str, int]:
        """Stop counting."""
        self._handle.remove()
        return {"calls": self.calls, "rows": self.rows}


def pipeline_of(model: _ldm.LatentDiffusion) -> Any:
    """Put the same parts into the pipeline of diffusers."""
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        vae=model.vae,
        unet=model.unet,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        scheduler=model.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def conditions(taps: list[_ldm.Tap]) -> list[tuple[int, int, list[_ldm.Tap]]]:
    """List the calls that one would make: each strength and step of z_c, and each of the layers, all of them hooked."""
    keys = dict.fromkeys((tap.layer is not None, tap.strength, tap.step) for tap in taps)
    return [
        (
            strength,
            step,
            [tap for tap in taps if (tap.layer is not None, tap.strength, tap.step) == (is_layer, strength, step)],
        )
        for is_layer, strength, step in keys
    ]


def hear(heard: dict[_ldm.Tap, torch.Tensor], tap: _ldm.Tap, _module: Any, _inputs: Any, output: Any) -> None:
    """Keep the last output of a layer."""
    heard[tap] = output[0] if isinstance(output, tuple) else output


def catch(
    caught: dict[_ldm.Tap, torch.Tensor],
    heard: dict[_ldm.Tap, torch.Tensor],
    wanted: list[_ldm.Tap],
    at: int,
    _pipeline: Any,
    i: int,
    _t: Any,
    kept: dict[str, Any],
) -> dict[str, Any]:
    """Catch what is wanted after the step that completes it."""
    if i + 1 == at:
        caught.update({tap: heard.get(tap, kept["latents"]).clone() for tap in wanted})
    return kept


def by_pipeline(
    model: _ldm.LatentDiffusion, z: torch.Tensor, c: torch.Tensor, taps: list[_ldm.Tap], n_steps: int
) -> dict[_ldm.Tap, torch.Tensor]:
    """Call the pipeline once per condition, and catch what is wanted on the way."""
    pipeline, caught = pipeline_of(model), {}
    for strength, step, wanted in conditions(taps):
        at = _ldm.step_index(step, _ldm.n_steps_of(strength, n_steps))
        heard: dict[_ldm.Tap, torch.Tensor] = {}
        layers = [(tap, model.unet.get_submodule(tap.layer)) for tap in wanted if tap.layer]
        handles = [module.register_forward_hook(partial(hear, heard, tap)) for tap, module in layers]
        pipeline(
            prompt_embeds=c,
            image=z,
            strength=strength / 100,
            num_inference_steps=n_steps,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(SEED),
            output_type="latent",
            callback_on_step_end=partial(catch, caught, heard, wanted, at),
        )
        for handle in handles:
            handle.remove()
    return caught


def timed(run: Callable[[], Any], unet: Any, n_runs: int) -> tuple[Any, dict[str, Any]]:
    """Run, count calls and rows of one run, and take the median of seconds."""
    counted = Counted(unet)
    found, counts = run(), counted.taken()
    seconds = []
    for _ in range(n_runs):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return found, {**counts, "seconds": round(statistics.median(seconds), 2)}


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="phantom", help="phantom, full-size, or a folder in the layout of Stable Diffusion"
    )
    parser.add_argument("--images", type=int, default=25)
    parser.add_argument("--n-steps", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3, help="timed runs, after one that is not timed")
    given = parser.parse_args()
    case = Case.of(given.model, given.images, given.n_steps)
    extractor, model = case.extractor, case.model
    taps = list(extractor._taps(extractor.bands).values())
    # The pipeline draws its noise itself; ours is given the same.
    noise = torch.randn(case.z.shape, generator=torch.Generator().manual_seed(SEED))
    ours, one = timed(
        lambda: _ldm.trajectory(model, case.z, case.c, noise, n_steps=given.n_steps, taps=taps).caught,
        model.unet,
        given.runs,
    )
    theirs, other = timed(
        lambda: by_pipeline(model, case.z, case.c.states, taps, given.n_steps), model.unet, given.runs
    )
    error = max(float((ours[tap] - theirs[tap]).norm() / theirs[tap].norm()) for tap in taps)
    found = {
        "images": given.images,
        "n_steps": given.n_steps,
        "bands": len(extractor.bands),
        "one pass": one,
        "pipeline per condition": {**other, "conditions": len(conditions(taps))},
        "ratio": {key: round(other[key] / one[key], 2) for key in ("calls", "rows", "seconds")},
        "rows needed": extractor.n_rows(extractor.bands) * given.images,
        "largest relative difference": float(f"{error:.1e}"),
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
        "machine": f"{platform.machine()}, {n_cores()} cores",
    }
    for name, value in found.items():
        print(f"{name}: {value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
