"""CLIP against transformers: its embeddings, layers and preparation; damaged folders are refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcortex import extract, extractors
from latentcortex.errors import InputError, MissingExtraError
from latentcortex.features import Features
from latentcortex.study import Study

VISION, TEXT = "clip_part-vision", "clip_part-text"


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a CLIP model for images of 16 x 16 with random weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    tokenizer.save_pretrained(folder)
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    size = {"num_attention_heads": 2, "intermediate_size": 24}
    text = {"vocab_size": len(tokens), "hidden_size": 12, "num_hidden_layers": 2, "max_position_embeddings": 20}
    vision = {"hidden_size": 16, "num_hidden_layers": 3, "image_size": 16, "patch_size": 4}
    torch.manual_seed(0)
    transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={**text, **size, **special, "pad_token_id": tokenizer.eos_token_id},
            vision_config={**vision, **size},
            projection_dim=8,
        )
    ).save_pretrained(folder)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    known = {"size": 16, "crop_size": 16, "do_resize": True, "do_center_crop": True, "do_normalize": True}
    known |= {"image_mean": mean, "image_std": std, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(known))
    return folder


@pytest.fixture
def clip(tiny_clip: Path):
    return extractors.make("clip", model=str(tiny_clip))


@pytest.fixture
def theirs(tiny_clip: Path):
    """Load the model as transformers does."""
    transformers = pytest.importorskip("transformers")
    return transformers.CLIPModel.from_pretrained(tiny_clip, local_files_only=True).eval()


def clip_of(model, stimuli, ids, bands):
    return model.extract(stimuli.images(ids), stimuli.captions(ids), list(ids), bands)


def test_the_image_embedding_is_that_of_transformers(clip, theirs, pictures) -> None:
    torch = pytest.importorskip("torch")
    stimuli = pictures(["a", "b", "c"], size=24)
    pixels = torch.from_numpy(clip.preparation.prepare(stimuli.images(stimuli.ids)))
    with torch.inference_mode():
        expected = theirs.get_image_features(pixel_values=pixels).pooler_output.numpy()
    found = clip_of(clip, stimuli, stimuli.ids, [VISION])[VISION]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert found.dtype == np.float32


def test_the_text_embedding_is_the_mean_of_those_of_transformers(clip, theirs, pictures, tiny_clip: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    stimuli = pictures(["a", "b", "z"])
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tiny_clip, local_files_only=True)
    expected = []
    for texts in stimuli.captions(stimuli.ids):
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=20, return_tensors="pt")
        with torch.inference_mode():
            expected.append(theirs.get_text_features(**tokens).pooler_output.mean(0).numpy())
    found = clip_of(clip, stimuli, stimuli.ids, [TEXT])[TEXT]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert len({len(texts) for texts in stimuli.captions(stimuli.ids)}) == 2


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_a_layer_is_a_hidden_state_of_the_vision_tower(tiny_clip: Path, theirs, pictures, pool: str) -> None:
    torch = pytest.importorskip("torch")
    model, stimuli = extractors.make("clip", model=str(tiny_clip), pool=pool), pictures(["a", "b"])
    heard = []
    handle = theirs.vision_model.encoder.layers[1].register_forward_hook(lambda m, i, o: heard.append(o))
    with torch.inference_mode():
        theirs.vision_model(pixel_values=torch.from_numpy(model.preparation.prepare(stimuli.images(["a", "b"]))))
    handle.remove()
    state = heard[0][0] if isinstance(heard[0], tuple) else heard[0]
    expected = state[:, 0] if pool == "cls" else state[:, 1:].mean(1)
    found = clip_of(model, stimuli, ["a", "b"], ["clip_layer-2"])["clip_layer-2"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_clip_does_not_depend_on_batch_order_or_other_bands(clip, pictures) -> None:
    ids = [f"s{i}" for i in range(28)]
    stimuli, bands = pictures(ids), [VISION, TEXT, "clip_layer-0", "clip_layer-3"]
    everyone = clip_of(clip, stimuli, ids, bands)
    few = clip_of(clip, stimuli, ["s27", "s3"], bands)
    for band in bands:
        np.testing.assert_array_equal(few[band], everyone[band][[27, 3]])
        np.testing.assert_array_equal(clip_of(clip, stimuli, ["s3"], [band])[band], few[band][1:])


def test_clip_goes_into_a_store(clip, pictures, tmp_path: Path) -> None:
    features = extract(pictures(["a", "b"]), clip, store=tmp_path, progress=False)
    assert features.dims == {VISION: 8, TEXT: 8}
    assert features.made_by["vision"] == "3 blocks of 16 dimensions, patches of 4 pixels"


@pytest.mark.parametrize("shape", [(16, 16), (20, 31), (47, 33), (9, 12)])
@pytest.mark.parametrize("edge", [16, 18])
def test_images_are_prepared_as_transformers_does(tiny_clip: Path, shape: tuple[int, int], edge: int) -> None:
    processing = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    from latentcortex.extractors.clip import ImagePreparation

    known = json.loads((tiny_clip / "preprocessor_config.json").read_text())
    ours = ImagePreparation(edge, 16, tuple(known["image_mean"]), tuple(known["image_std"]), 3)
    processor = processing.CLIPImageProcessorPil(
        size={"shortest_edge": edge},
        crop_size={"height": 16, "width": 16},
        image_mean=known["image_mean"],
        image_std=known["image_std"],
    )
    images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    expected = np.stack(processor([Image.fromarray(image) for image in images])["pixel_values"])
    assert np.abs(ours.prepare(images) - expected).max() < 1e-5


def test_new_and_old_ways_to_write_a_preparation_are_read_alike(tiny_clip: Path, tmp_path: Path) -> None:
    from latentcortex.extractors.clip import ImagePreparation

    known = json.loads((tiny_clip / "preprocessor_config.json").read_text())
    path = tmp_path / "new.json"
    path.write_text(json.dumps({**known, "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}))
    assert ImagePreparation.read(path) == ImagePreparation.read(tiny_clip / "preprocessor_config.json")


@pytest.mark.parametrize(
    "other",
    [
        {"size": {"height": 16, "width": 16}},
        {"crop_size": {"height": 16, "width": 12}},
        {"crop_size": 20},
        {"do_normalize": False},
        {"image_mean": [0.5]},
        {"resample": 99},
        {"image_std": None},
    ],
)
def test_another_preparation_than_that_of_clip_is_an_input_error(tiny_clip: Path, tmp_path: Path, other: dict) -> None:
    from latentcortex.extractors.clip import ImagePreparation

    known = json.loads((tiny_clip / "preprocessor_config.json").read_text())
    (tmp_path / "p.json").write_text(json.dumps({**known, **other}))
    with pytest.raises(InputError, match="is not the preparation of a CLIP model"):
        ImagePreparation.read(tmp_path / "p.json")


def test_a_model_in_the_local_cache_is_found_by_repository_and_commit(clip, tiny_clip, tmp_path, monkeypatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    shutil.copytree(tiny_clip, tmp_path / "models--some--clip" / "snapshots" / commit)
    cached = extractors.make("clip", model="some/clip", revision=commit)
    assert cached.made_by == clip.made_by


def test_a_model_that_is_not_there_is_one_line_with_the_command_that_fetches_it(tmp_path: Path, monkeypatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    pytest.importorskip("torch")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "32bd64288804d66eefd0ccbe215aa642df71cc41"
    command = f"hf download openai/clip-vit-large-patch14 --revision {commit}"
    with pytest.raises(InputError, match=f"Fetch it with: {command} ") as error:
        extractors.make("clip").check([VISION])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mdl": "x"}, "Did you mean 'model'"),
        ({"model": "nowhere"}, "Model nowhere is not there: give a folder, or a model of the hub as owner/name."),
        ({"model": "some/clip"}, "some/clip needs `revision`, the commit of 40 hex digits; got none"),
        ({"model": "some/clip", "revision": "main"}, "got main"),
        ({"pool": "clss"}, "Unknown pool 'clss'. Did you mean 'cls'?"),
    ],
)
def test_a_wrong_setting_of_clip_is_an_input_error(arguments: dict, says: str) -> None:
    pytest.importorskip("torch")
    with pytest.raises(InputError, match=re.escape(says)):
        extractors.make("clip", **arguments).check([VISION])


@pytest.mark.parametrize(
    ("band", "says"),
    [
        ("clip_part-visoin", "Unknown band of clip 'clip_part-visoin'. Did you mean 'clip_part-vision'?"),
        ("clip_layer-4", "the model has clip_layer-0 to clip_layer-3"),
        ("clip_layer-01", "the model has clip_layer-0 to clip_layer-3"),
    ],
)
def test_a_band_that_the_model_does_not_have_is_an_input_error(clip, tiny_clip: Path, band: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        clip.check([band])
    with pytest.raises(InputError, match=re.escape(says)):
        extractors.make("clip", model=str(tiny_clip), bands=[band])


def test_texts_without_captions_are_an_input_error(clip) -> None:
    clip.check([VISION], [(), ("a",)])
    with pytest.raises(InputError, match=r"1 stimuli have none\. Ask for clip_part-vision alone"):
        clip.check([VISION, TEXT], [(), ("a",)])


def without(name: str):
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def partial(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    kept = {name: values for name, values in load_file(path).items() if name != "visual_projection.weight"}
    save_file(kept, path, metadata={"format": "pt"})


def another(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


def larger(folder: Path) -> None:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "size": 32, "crop_size": 32}))


def enlarged(folder: Path) -> None:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "size": {"shortest_edge": 10**6}}))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without("config.json"), "config.json is missing"),
        (without("preprocessor_config.json"), "preprocessor_config.json is missing"),
        (without("model.safetensors"), "cannot be loaded: .*no file named model.safetensors"),
        (without("tokenizer.json"), "has no tokenizer.json or vocab.json and merges.txt: a tokenizer without a "),
        (cut, "cannot be loaded"),
        (partial, "lacks 1 weights of its CLIPModel, among them visual_projection.weight"),
        (another, "is a bert; only CLIPModel is known there"),
        (enlarged, "size = 1000000; a known model has at most 4096|shortest_edge = 1000000"),
        (larger, "prepares images of 32 pixels for a model of 16 pixels"),
    ],
)
def test_a_damaged_model_folder_is_one_line(tiny_clip: Path, pictures, tmp_path: Path, spoil, says: str, capfd) -> None:
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "model"))
    spoil(folder)
    with pytest.raises(InputError, match=says) as error:
        extract(pictures(["a"]), extractors.make("clip", model=str(folder)), store=tmp_path / "store", progress=False)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_without_torch_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("latentcortex.extractors.clip.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"The extractor 'clip' .*latentcortex\[ldm\]"):
        extractors.make("clip")


@pytest.mark.parametrize(
    ("settings", "bands"),
    [
        ('name = "pixels"\nbands = ["contrast", "gabor"]\ngrid = 2', ("contrast", "gabor")),
        ('name = "clip"\nmodel = "model"\nbands = ["clip_part-vision"]', (VISION,)),
    ],
)
def test_a_study_extracts_them(folder_study: Path, request, settings: str, bands: tuple[str, ...]) -> None:
    if "clip" in settings:
        shutil.copytree(request.getfixturevalue("tiny_clip"), folder_study.parent / "model")
    folder_study.write_text(folder_study.read_text().replace('name = "pixels"\nsize = 8', settings))
    Study.read(folder_study).run(folder_study.parent / "out", until="extract", progress=False)
    (manifest,) = (folder_study.parent / "out" / "features").glob("*/manifest.json")
    assert Features.open(manifest.parent).bands == bands
