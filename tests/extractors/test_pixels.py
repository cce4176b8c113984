"""Pixels, Gabor energy, contrast and colour against scikit-image and by what pictures show."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy.signal import fftconvolve

from latentcortex import extractors
from latentcortex.extractors.pixels import SIDE, Pixels

BANDS = ("pixels", "contrast", "gabor", "colour")


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
