"""Copies are found whatever was done to them, and unlike photographs are not taken for copies."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy import fft
from sklearn.datasets import load_sample_images

from latentcortex._copies import COARSE, SIDE, _analysis, copies, views

SIZE = 240


def sized(image: np.ndarray, side: int = SIZE) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Cut the two photographs of scikit-learn, 427 x 640 pixels, into squares that do not overlap."""
    squares = [
        image[row : row + 200, column : column + 200]
        for image in load_sample_images().images
        for row in (0, 213)
        for column in (0, 210, 420)
    ]
    return [sized(one) for one in squares]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


def cropped(image: np.ndarray, top: float, bottom: float, left: float, right: float) -> np.ndarray:
    rows, columns = (slice(round(a * SIZE), SIZE - round(b * SIZE)) for a, b in ((top, bottom), (left, right)))
    return sized(image[rows, columns])


def framed(image: np.ndarray, high: float, wide: float, colour: int) -> np.ndarray:
    out = np.full_like(image, colour)
    top, left = round(high * SIZE), round(wide * SIZE)
    inner = (SIZE - 2 * left, SIZE - 2 * top)
    out[top : SIZE - top, left : SIZE - left] = np.asarray(Image.fromarray(image).resize(inner))
    return out


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "itself": lambda i: i.copy(),
    "compressed": lambda i: jpeg(i, 50),
    "smaller": lambda i: sized(i, 100),
    "brighter": lambda i: clipped(i * 1.3),
    "darker": lambda i: clipped(i * 0.6),
    "lifted": lambda i: clipped(i + 40.0),
    "less contrast": lambda i: clipped((i - 128.0) / 2 + 128),
    "grey": grey,
    "framed in white": lambda i: framed(i, 0.1, 0.1, 255),
    "framed in black and compressed": lambda i: jpeg(framed(i, 0.06, 0.06, 0), 70),
    "between bars": lambda i: framed(i, 0.12, 0, 0),
    "mirrored": lambda i: i[:, ::-1].copy(),
    "mirrored, grey and compressed": lambda i: jpeg(grey(i[:, ::-1]), 60),
    "cropped at all sides": lambda i: cropped(i, 0.05, 0.05, 0.05, 0.05),
    "cropped at one side": lambda i: cropped(i, 0, 0, 0.1, 0),
    "cropped at a corner": lambda i: cropped(i, 0.1, 0, 0, 0.1),
    "cropped anyhow": lambda i: cropped(i, 0.03, 0.06, 0.02, 0.08),
    "cropped at a corner and mirrored": lambda i: cropped(i[:, ::-1], 0, 0.1, 0, 0.1),
    "cropped and framed": lambda i: framed(cropped(i, 0.05, 0.05, 0.05, 0.05), 0.1, 0.1, 0),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_and_nothing_else(name: str, photographs) -> None:
    altered = [COPIES[name](image) for image in photographs]
    n = len(photographs)
    expected = {(i, i + n) for i in range(n)}
    alike = set(copies([views(image) for image in photographs + altered]))
    assert alike <= expected
    # A part that shows little but a dark roof or leaves out of focus may be missed when it is blurred, too.
    assert len(alike) >= n - 1


def test_images_drawn_from_noise_are_no_copies_of_each_other() -> None:
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    frequency[0, 0] = 1
    drawn = np.fft.ifft2(np.fft.fft2(rng.standard_normal((400, 64, 64))) / frequency).real
    drawn = clipped((drawn - drawn.mean((1, 2), keepdims=True)) / drawn.std((1, 2), keepdims=True) * 50 + 128)
    assert copies([views(np.repeat(one[..., None], 3, axis=2)) for one in drawn]) == []


def test_the_same_shapes_in_other_colours_are_no_copies(photographs) -> None:
    image = photographs[0]
    other = image[..., [2, 1, 0]].copy()
    light = np.array([0.299, 0.587, 0.114])
    other = clipped(other + (image @ light - other @ light)[..., None])
    assert copies([views(image), views(other)]) == []
    assert copies([views(grey(image)), views(grey(other))]) == [(0, 1)]


def test_images_that_show_nothing_are_not_compared() -> None:
    flat = [np.full((20, 20, 3), value, np.uint8) for value in (0, 128, 129)]
    assert copies([views(one) for one in flat]) == []
    assert copies([]) == []


def test_a_frame_is_cut_off_and_a_sky_is_not(photographs) -> None:
    assert len(views(photographs[0])) == 1
    whole, inside = views(framed(photographs[0], 0.1, 0.1, 200))
    (bare,) = views(photographs[0])
    assert np.abs(inside.lightness.astype(int) - bare.lightness).mean() < 4
    assert np.abs(whole.lightness.astype(int) - bare.lightness).mean() > 20


def test_waves_of_the_whole_are_the_cosine_transform() -> None:
    pixels = np.random.default_rng(0).random((SIDE, SIDE)).astype(np.float32)
    analysis = _analysis(0.0, 0.0, SIDE, COARSE.highest)
    k = np.arange(COARSE.highest + 1)
    # A pixel is as wide as it is: its mean of a cosine is that at its middle times a sinc.
    width = np.sinc(k / (2 * SIDE))
    expected = fft.dctn(pixels, type=2)[: len(k), : len(k)] / (2 * SIDE) ** 2 * np.outer(width, width)
    np.testing.assert_allclose(analysis @ pixels @ analysis.T, expected, atol=1e-6)


def test_waves_of_a_window_are_those_of_what_is_in_it() -> None:
    smooth = np.cumsum(np.cumsum(np.random.default_rng(0).standard_normal((480, 480)), 0), 1)
    whole = smooth.reshape(SIDE, 10, SIDE, 10).mean((1, 3))
    window = smooth[24:-24, 48:]
    rows, columns = (_analysis(0.0, 0.0, size, 12) for size in window.shape)
    expected = COARSE.of(rows @ window @ columns.T)
    seen = COARSE.of(_analysis(0.05, 0.05, SIDE, 12) @ whole @ _analysis(0.1, 0.0, SIDE, 12).T)
    assert expected @ seen > 0.995
