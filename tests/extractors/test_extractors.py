from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.signal import fftconvolve

from latentcortex import extract, extractors
from latentcortex.errors import InputError, MissingExtraError
from latentcortex.extractors.categories import Categories
from latentcortex.extractors.pixels import SIDE, Pixels
from latentcortex.features import Features
from latentcortex.study import Study

BANDS = ("pixels", "contrast", "gabor", "colour")
VISION, TEXT = "clip_part-vision", "clip_part-text"


def of(extractor, images: np.ndarray, band: str) -> np.ndarray:
    return extractor.extract(images, [()] * len(images), [""] * len(images), [band])[band]


def grating(cycles: float, degrees: float, *, phase: float = 0, amplitude: float = 0.4, size: int = SIDE) -> np.ndarray:
    """Draw stripes; at 0 degrees they are vertical, and they turn clockwise."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    angle = np.deg2rad(degrees)
    wave = amplitude * np.cos(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return np.repeat(np.round(255 * (0.5 + wave))[..., None], 3, axis=-1).astype(np.uint8)


def clouds(seed: int, size: int = SIDE) -> np.ndarray:
    """Draw noise whose amplitude falls with frequency as in photographs, and that has no edges."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = np.inf
    noise = np.fft.ifft2(
        np.fft.fft2(rng.standard_normal((size, size, 3)), axes=(0, 1)) / frequency[..., None], axes=(0, 1)
    )
    return np.clip(127.5 + 40 * noise.real / noise.real.std(), 0, 255).astype(np.uint8)


# Pixels.


def test_default_pixels_are_luminance_at_a_small_size() -> None:
    images = np.stack([clouds(0, 40), clouds(1, 40)])
    small = [Image.fromarray(image).convert("L").resize((28, 28), Image.Resampling.BICUBIC) for image in images]
    expected = np.stack([np.asarray(one, dtype=np.float32).ravel() / 255 for one in small])
    found = of(extractors.make("pixels"), images, "pixels")
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_stores_of_default_pixels_keep_their_key() -> None:
    for same in (Pixels(), Pixels(bands=["pixels"]), Pixels(n_scales=4, n_orientations=8, grid=8)):
        assert same.made_by == {"name": "pixels", "version": 1, "size": 28}
        assert same.bands == ("pixels",)
    others = [Pixels(), Pixels(grid=4), Pixels(n_scales=3), Pixels(n_orientations=4), Pixels(bands=["gabor"])]
    assert len({json.dumps(one.made_by) for one in others}) == len(others)


def test_dimensions_are_as_many_as_are_documented() -> None:
    image = clouds(0, 320)[None]
    counted = {band: of(Pixels(), image, band).shape[1] for band in BANDS}
    assert counted == {"pixels": 784, "contrast": 64, "gabor": 2048, "colour": 128}
    for band, n in counted.items():
        assert f"`{band}` ({n})" in Pixels.__doc__
    assert of(Pixels(grid=4), image, "gabor").shape == (1, 512)
    assert of(Pixels(grid=3, n_scales=2, n_orientations=5), image, "gabor").shape == (1, 90)


def energies(image: np.ndarray, **settings: int) -> np.ndarray:
    """Return (n_scales, n_orientations, grid, grid)."""
    model = Pixels(**settings)
    return of(model, image[None], "gabor").reshape(model.n_scales, model.n_orientations, model.grid, model.grid)


@pytest.mark.parametrize("scale", range(4))
@pytest.mark.parametrize("orientation", [0, 3, 4, 6])
def test_gabor_energy_peaks_at_the_scale_and_orientation_of_a_grating(scale: int, orientation: int) -> None:
    found = energies(grating(32 / 2**scale, 22.5 * orientation))[:, :, 2:6, 2:6]
    for cell in found.reshape(4, 8, -1).transpose(2, 0, 1):
        assert np.unravel_index(cell.argmax(), cell.shape) == (scale, orientation)


def test_gabor_energy_is_the_amplitude_of_a_grating_whatever_its_phase() -> None:
    for phase in np.linspace(0, 2 * np.pi, 7):
        inside = energies(grating(16, 45, phase=phase))[1, 2, 2:6, 2:6]
        np.testing.assert_allclose(inside, 0.4, rtol=0.01)


def test_gabor_energy_and_contrast_scale_with_contrast() -> None:
    strong, weak = (grating(8, 90, amplitude=a) for a in (0.4, 0.1))
    np.testing.assert_allclose(energies(weak)[2, 4] * 4, energies(strong)[2, 4], rtol=0.02)
    low, high = (of(Pixels(), image[None], "contrast") for image in (weak, strong))
    np.testing.assert_allclose(low * 4, high, rtol=0.02)
    np.testing.assert_allclose(high, 0.4 / np.sqrt(2), rtol=0.02)


@pytest.mark.parametrize("scale", range(4))
def test_gabor_energy_is_that_of_scikit_image(scale: int) -> None:
    filters = pytest.importorskip("skimage.filters")
    image = clouds(3)
    values = np.asarray(Image.fromarray(image).convert("L")) / 255
    # Its filters see mean luminance a little, ours do not.
    mirrored = np.pad(values - values.mean(), SIDE, mode="symmetric")
    for k, ours in enumerate(energies(image, grid=4, n_orientations=6)[scale]):
        kernel = filters.gabor_kernel(0.25 / 2**scale, theta=np.pi * k / 6, bandwidth=1, n_stds=5)
        pair = 2 * fftconvolve(mirrored, kernel, mode="same")[SIDE:-SIDE, SIDE:-SIDE]
        theirs = np.sqrt((np.abs(pair) ** 2).reshape(4, SIDE // 4, 4, SIDE // 4).mean((1, 3)))
        np.testing.assert_allclose(ours, theirs, atol=2e-3 * theirs.max())


def patch(left: int, top: int) -> np.ndarray:
    """Draw a small patch of diagonal stripes on grey, 16 pixels wide."""
    window = np.zeros((SIDE, SIDE))
    window[top : top + 16, left : left + 16] = np.outer(np.hanning(16), np.hanning(16))
    stripes = np.cos(2 * np.pi * np.add(*np.mgrid[:16, :16]) / 6)
    window[top : top + 16, left : left + 16] *= stripes
    return np.repeat(np.round(128 + 100 * window)[..., None], 3, axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("band", "most"), [("contrast", 1e-6), ("gabor", 0.1)])
def test_a_shift_within_a_grid_cell_changes_little(band: str, most: float) -> None:
    images = np.stack([patch(40, 40), patch(43, 39), np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)])

    def change(name: str) -> float:
        here, there, nothing = of(Pixels(size=SIDE, grid=4), images, name)
        return float(np.linalg.norm(there - here) / np.linalg.norm(here - nothing))

    assert change(band) < most
    assert change("pixels") > 1


@pytest.mark.parametrize("grey", [0, 77, 128, 255])
@pytest.mark.parametrize("grid", [1, 3, 8, 128])
def test_a_flat_grey_image_has_no_contrast_energy_or_colour(grey: int, grid: int) -> None:
    flat = np.full((1, 50, 50, 3), grey, dtype=np.uint8)
    for band, most in (("contrast", 0), ("gabor", 1e-6), ("colour", 0)):
        assert np.abs(of(Pixels(grid=grid), flat, band)).max() <= most


def test_contrast_is_the_standard_deviation_of_each_cell() -> None:
    image = clouds(4)
    values = np.asarray(Image.fromarray(image).convert("L")) / 255
    even = values.reshape(8, 16, 8, 16).std((1, 3))
    np.testing.assert_allclose(of(Pixels(), image[None], "contrast")[0], even.ravel(), rtol=1e-5)
    uneven = [part.std() for rows in (values[:42], values[42:85], values[85:]) for part in np.split(rows, [42, 85], 1)]
    np.testing.assert_allclose(of(Pixels(grid=3), image[None], "contrast")[0], uneven, rtol=1e-5)


def test_colour_tells_red_from_green_and_yellow_from_blue_by_place() -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:32, :32, 0], image[:32, 32:, 1], image[32:, :32, 2], image[32:, 32:] = 255, 255, 255, (255, 255, 0)
    red_green, yellow_blue = of(Pixels(grid=8), image[None], "colour").reshape(2, 8, 8)[:, 1::5, 1::5]
    np.testing.assert_allclose(red_green, [[1, -1], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(yellow_blue, [[0.5, 0.5], [-1, 1]], atol=1e-6)


def test_pixels_do_not_depend_on_batch_or_order(pictures) -> None:
    images = pictures([f"s{i}" for i in range(9)]).images([f"s{i}" for i in range(9)])
    model, order = Pixels(bands=BANDS), [7, 2, 5]
    everyone = model.extract(images, [()] * 9, [""] * 9, BANDS)
    few = model.extract(images[order], [()] * 3, [""] * 3, BANDS[::-1])
    for band in BANDS:
        np.testing.assert_array_equal(few[band], everyone[band][order])


# Categories.


def test_categories_are_fractions_of_captions_that_have_a_whole_word() -> None:
    model = Categories(words=["cat", "fire hydrant", "Dog"])
    captions = [("A CAT.", "two cats scatter"), ("dog-cat by a fire\n hydrant",), ("hotdog", "a dog", "cat, dog", "x")]
    found = model.extract(np.zeros((3, 1, 1, 3), np.uint8), captions, ["", "", ""], ["categories"])["categories"]
    np.testing.assert_array_equal(found, [[0.5, 0, 0], [1, 1, 1], [0.25, 0, 0.5]])
    assert found.dtype == np.float32


def test_categories_go_into_a_store_that_belongs_to_the_words(pictures, tmp_path: Path) -> None:
    stimuli = pictures(["a", "b", "z"])
    stores = {}
    for words in (["dog", "cat"], ["cat", "dog"], ["car"]):
        stores[tuple(words)] = extract(
            stimuli, extractors.make("categories", words=words), store=tmp_path, progress=False
        )
    assert len({features.folder for features in stores.values()}) == 3
    expected = [
        [np.mean([word in text.split() for text in texts]) for word in ("dog", "cat")]
        for texts in stimuli.table["captions"]
    ]
    np.testing.assert_array_equal(stores["dog", "cat"].array("categories"), np.array(expected, np.float32))


def test_a_word_that_no_caption_has_is_warned_of(caplog) -> None:
    Categories(words=["cat", "dgo"]).check(["categories"], [("a cat",), ("a dog",)])
    assert [record.getMessage() for record in caplog.records] == [
        "No caption of 2 stimuli has dgo; its column is constant."
    ]


def test_categories_without_captions_are_an_input_error() -> None:
    model = Categories(words=["cat"])
    for ask in (model.check, lambda b, c: model.extract(np.zeros((2, 1, 1, 3), np.uint8), c, ["", ""], b)):
        with pytest.raises(InputError, match="1 stimuli have none"):
            ask(["categories"], [("a cat",), ()])


# What a study file may get wrong.


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("pixels", {"n_scale": 3}, "Did you mean 'n_scales'"),
        ("pixels", {"n_scales": 7}, "`n_scales` of extractor 'pixels' must be a whole number from 1 to 6; got 7"),
        ("pixels", {"n_orientations": 0}, "must be a whole number of at least 1; got 0"),
        ("pixels", {"grid": 129}, "`grid` of extractor 'pixels' must be a whole number from 1 to 128; got 129"),
        ("pixels", {"grid": 2.0}, "whole number from 1 to 128; got 2.0"),
        (
            "pixels",
            {"bands": "gabor"},
            "must be a list of distinct entries, each one of pixels, contrast, gabor, colour, at least one; got",
        ),
        ("pixels", {"bands": ["gabour"]}, "Unknown band of pixels 'gabour'. Did you mean 'gabor'"),
        ("pixels", {"bands": []}, "at least one"),
        ("categories", {}, "missing a required argument: 'words'"),
        ("categories", {"words": "cat"}, "must be a list of distinct names, at least one; got 'cat'"),
        ("categories", {"words": ["cat", " Cat"]}, "must differ in more than case"),
        ("categories", {"words": ["cat", ""]}, "not be empty"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_is_right(name: str, arguments: dict, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        extractors.make(name, **arguments)
    assert "\n" not in str(error.value)


# CLIP.


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


# In a study.


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
