"""What several tests need: a tiny latent diffusion model with random weights, pictures, and subjects with a cortex."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import _subjects
import numpy as np
import pandas as pd
import pytest
from _studies import write_folder_study

from latentcortex.features import Features
from latentcortex.plotting import cortex
from latentcortex.stimuli import Stimuli

Pictures = Callable[..., Stimuli]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail where a test module cannot be imported: for want of its doctests pytest would skip it, and all its tests."""
    report = yield
    if report.skipped and collector.path.name.startswith("test_") and "unable to import" in str(report.longrepr):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    """Make stimuli of seeded noise, each with one or two captions; one depends on its own id only."""

    def make(ids: list[str], size: int = 16) -> Stimuli:
        def load(name: str) -> np.ndarray:
            rng = np.random.default_rng(list(name.encode()))
            return rng.integers(0, 256, (size, size, 3), dtype=np.uint8)

        words = ("a cat", "dog", "red car and a bus")
        captions = [(words[sum(name.encode()) % 3], *(["a dog"] if name > "m" else [])) for name in ids]
        return Stimuli(pd.DataFrame({"captions": captions}, index=pd.Index(ids)), load)

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of Stable Diffusion's classes, for images of 16 x 16, with random weights."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("model") / "tiny"
    torch.manual_seed(0)
    diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.7,
    ).save_pretrained(folder / "vae")
    diffusers.UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    ).save_pretrained(folder / "unet")
    diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=16
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    end = tokenizer.eos_token_id
    transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=12,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=end,
        )
    ).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture
def folder_study(tmp_path: Path) -> Path:
    """Write a study of 60 pictures and 30 voxels: ten driven by the pixels, one nan, one constant."""
    return write_folder_study(tmp_path)


@pytest.fixture(scope="session")
def phantom_features(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Extract every band of the phantom's canonical analyses, once for all tests."""
    pytest.importorskip("torch", reason="the phantom's features need the extra [ldm]")
    from latentcortex import extractors
    from latentcortex.datasets.phantom import Phantom
    from latentcortex.extraction import extract

    store = tmp_path_factory.mktemp("phantom")
    return extract(Phantom().stimuli(), extractors.make("ldm", model="phantom"), store=store, progress=False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw cortex with few pixels, so that figures take little time."""
    monkeypatch.setattr(cortex, "FLAT_PIXELS", 60)
    monkeypatch.setattr(cortex, "INFLATED_PIXELS", 40)


@pytest.fixture(scope="module")
def bundled() -> Path:
    """The subject that comes with pycortex."""
    if importlib.util.find_spec("cortex") is None:
        pytest.skip("pycortex is not installed: pip install 'latentcortex[pycortex]'")
    folder = Path(sys.prefix, "share", "pycortex", "db", "S1")
    if not folder.is_dir():
        pytest.skip("pycortex was installed without its subject S1")
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(_subjects.freesurfer_subject(tmp_path_factory.mktemp("subjects") / "bert"))
