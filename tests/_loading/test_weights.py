"""Weights with the names of older files are the same model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _folders_of_models import replaced, rewritten, weights_of

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from _models import linked  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from latentcortex import _ldm  # noqa: E402


def test_a_folder_with_the_names_of_older_files_is_the_same_model(tiny_model: Path, tmp_path: Path) -> None:
    """Names of the released Stable Diffusion 1.4: `text_model.`, kept places, attention of the autoencoder, PNDM."""
    folder = linked(tiny_model, tmp_path / "model")

    def texts(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"text_model.{name}"] = tensors.pop(name)
        tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]

    def attention(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            old = name
            for new, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
                old = old.replace(f"attentions.0.{new}.", f"attentions.0.{before}.")
            tensors[old] = tensors.pop(name)

    rewritten(folder / "text_encoder", texts)
    rewritten(folder / "vae", attention)
    assert any("proj_attn" in name for name in load_file(weights_of(folder / "vae")))
    noise = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    pndm = {"_class_name": "PNDMScheduler", **noise, "skip_prk_steps": True, "steps_offset": 1}
    replaced(folder / "scheduler" / "scheduler_config.json", json.dumps(pndm).encode())
    model, whole = _ldm.load(folder), _ldm.load(tiny_model)
    for one, other in zip(model.modules, whole.modules, strict=True):
        ours, theirs = one.state_dict(), other.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    torch.testing.assert_close(model.scheduler.alphas_cumprod, whole.scheduler.alphas_cumprod, rtol=0, atol=0)
