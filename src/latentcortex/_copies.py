"""Which images are copies of each other: compressed, resized, lighter, grey, framed, mirrored, or cropped by a tenth.

An image is seen as the cosine transform of its lightness, each wave times its frequency: all waves of a photograph
then have about the same energy, and unlike ones correlate little. Windows of a thumbnail are transformed without
resampling it. Pairs whose coarse waves correlate in one of 25 windows, mirrored or not, are aligned, and compared in
finer waves and in colour. `benchmarks/copies.py` measures what is found, and what is found by mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcortex._arrays import FloatArray, IntArray

SIDE: Final = 48
"""Height and width of the lightness that is compared, in pixels."""
COLOUR_SIDE: Final = 16
"""The same of the colours."""
LARGE: Final = 256
"""Height or width from which frames are looked for in a reduced image."""
FRAME_LEVELS: Final = 24
"""Levels of 255 by which pixels of a frame differ from its colour at most; compression blurs its inner edge."""
FRAME_SHARE: Final = 0.9
"""Share of a line's pixels that have the colour of the frame."""
MIN_INSIDE: Final = 0.5
"""Height and width that a frame leaves at least."""
FLAT: Final = 2.0
"""Standard deviation of lightness, of 255, below which an image shows nothing that could be compared."""
GREY: Final = 4.8
"""Size of the colour waves, of 255, below which an image is grey and its colours say nothing."""
MARGINS: Final = ((0.0, 0.0), (0.025, 0.025), (0.05, 0.05), (0.1, 0.0), (0.0, 0.1))
"""What is cut off at the start and the end of an axis, of which all pairs are tried."""
CANDIDATE: Final = 0.7
"""Correlation of coarse waves from which a pair is aligned."""
ALIGNED: Final = 0.85
"""Correlation of coarse waves from which an aligned pair is compared in finer ones."""
LIKE: Final = 0.92
"""Correlation of fine waves that copies have at least."""
SURE: Final = 5.0
"""Its Fisher z in standard errors: what is drawn with few waves, an edge say, must agree better."""
COLOUR: Final = 0.95
"""Cosine of the colour waves that copies have at least, unless one is grey."""
ROUGH_COLOUR: Final = 0.8
"""The same before two images are aligned."""
AT_ONCE: Final = 256
"""Views that are compared with all others together."""


@dataclass(frozen=True)
class Waves:
    """The waves of two axes, up to a number of half periods per image.

    Parameters
    ----------
    highest : int
    """

    highest: int

    @cached_property
    def kept(self) -> IntArray:
        """Places of those that are compared, rows first: not the mean, nor the slopes that light makes."""
        each = self._frequencies
        return np.flatnonzero((each > 1.5) & (each <= self.highest + 0.5))

    @cached_property
    def weights(self) -> FloatArray:
        """The frequency of each kept wave, in half periods per image."""
        return np.asarray(self._frequencies[self.kept], dtype=np.float32)

    @cached_property
    def mirror(self) -> FloatArray:
        """What mirroring an image left to right does to each kept wave: 1 or -1."""
        return np.asarray((-1.0) ** (self.kept % (self.highest + 1)), dtype=np.float32)

    @property
    def _frequencies(self) -> FloatArray:
        return np.asarray(np.hypot(*np.mgrid[: self.highest + 1, : self.highest + 1])).ravel()

    def of(self, coefficients: FloatArray) -> FloatArray:
        """Weigh the kept waves of (..., highest + 1, highest + 1) by their frequency, and bring them to length 1."""
        flat = coefficients.reshape(*coefficients.shape[:-2], -1)
        weighted = flat.take(self.kept, axis=-1) * self.weights
        length = np.sqrt((weighted * weighted).sum(axis=-1, keepdims=True))
        return np.asarray(weighted / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)


COARSE: Final = Waves(12)
FINE: Final = Waves(24)
STEPS: Final = ((COARSE, 0.025), (COARSE, 0.0125), (FINE, 0.00625))
"""How an aligned window is moved, in parts of the image, and by which waves it is judged."""


class ImageView(NamedTuple):
    """An image, or what a frame leaves of it, as it is compared.

    Parameters
    ----------
    lightness : ndarray of uint8, shape (SIDE, SIDE)
    colours : ndarray of float32, shape (2, COLOUR_SIDE, COLOUR_SIDE)
        Blue and red less lightness (ITU-R 601).
    """

    lightness: NDArray[np.uint8]
    colours: FloatArray


def views(image: NDArray[np.uint8]) -> tuple[ImageView, ...]:
    """See an image, uint8 (height, width, 3), and what is left without its frame if it has one."""
    inside = _without_frame(image)
    return tuple(_view(one) for one in (image, inside) if one is not None)


def _view(image: NDArray[np.uint8]) -> ImageView:
    whole = Image.fromarray(image).convert("YCbCr")
    lightness = whole.getchannel("Y").resize((SIDE, SIDE), Image.Resampling.BOX)
    small = whole.resize((COLOUR_SIDE, COLOUR_SIDE), Image.Resampling.BOX)
    colours = np.moveaxis(np.asarray(small, dtype=np.float32)[..., 1:] - 128, -1, 0)
    return ImageView(np.asarray(lightness), colours)


def _without_frame(image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Cut off a frame, or bars at two opposite sides; None if there is none."""
    step = max(1, max(image.shape[:2]) // LARGE)
    small = np.asarray(Image.fromarray(image).reduce(step)) if step > 1 else image
    top, bottom = _inside(small)
    left, right = _inside(small[top:bottom].swapaxes(0, 1))
    height, width = small.shape[:2]
    whole = (top, bottom, left, right) == (0, height, 0, width)
    if whole or bottom - top < MIN_INSIDE * height or right - left < MIN_INSIDE * width:
        return None
    return image[top * step : bottom * step, left * step : right * step]


def _inside(image: NDArray[np.uint8]) -> tuple[int, int]:
    """Find the lines between two bars of one colour; a line more at each side, which resizing blurs, goes with them."""
    lines = image.astype(np.int16)
    first, last = np.median(lines[0], axis=0), np.median(lines[-1], axis=0)
    if np.abs(first - last).max() > FRAME_LEVELS:
        return 0, len(lines)
    near = np.abs(lines - (first + last) / 2).max(axis=-1) <= FRAME_LEVELS
    inner = np.flatnonzero(near.mean(axis=1) < FRAME_SHARE)
    if len(inner) < 3 or inner[0] == 0 or inner[-1] == len(lines) - 1:
        return 0, len(lines)
    return int(inner[0]) + 1, int(inner[-1])


@lru_cache(maxsize=4096)
def _analysis(before: float, after: float, n: int, highest: int) -> FloatArray:
    """Make what turns n pixels into the waves of the window between two margins, (highest + 1, n).

    Wave k is the mean of cos(pi k u) times lightness over the window, in which u goes from 0 to 1; a pixel at its edge
    counts in part.
    """
    u = (np.clip(np.arange(n + 1) / n, before, 1 - after) - before) / (1 - after - before)
    k = np.arange(1, highest + 1)[:, None]
    return np.concatenate([np.diff(u)[None], np.diff(np.sin(np.pi * k * u) / (np.pi * k), axis=1)]).astype(np.float32)


def copies(seen: Sequence[Sequence[ImageView]]) -> list[tuple[int, int]]:
    """List the pairs of images that are copies of each other.

    Parameters
    ----------
    seen : sequence of sequence of ImageView
        The views of each image.

    Returns
    -------
    list of tuple of int
        Places of two images, the smaller first, in ascending order.
    """
    every = [
        (owner, view, len(of_image) > 1 and view is of_image[0])
        for owner, of_image in enumerate(seen)
        for view in of_image
        if view.lightness.std() >= FLAT
    ]
    if not every:
        return []
    owners, framed = np.array([owner for owner, _, _ in every]), np.array([one for _, _, one in every])
    lightness = np.stack([view.lightness for _, view, _ in every])
    alike: set[tuple[int, int]] = set()
    for i, j, place, mirrored in _candidates(lightness, owners, framed):
        pair = (int(min(owners[i], owners[j])), int(max(owners[i], owners[j])))
        if pair not in alike and _agree(every[i][1], every[j][1], WINDOWS[place], mirrored):
            alike.add(pair)
    return sorted(alike)


WINDOWS: Final = tuple((rows, columns) for rows in MARGINS for columns in MARGINS)
"""Margins of rows and columns, the whole image first."""
Window = tuple[tuple[float, float], tuple[float, float]]


def _candidates(
    lightness: NDArray[np.uint8], owners: IntArray, framed: NDArray[np.bool_]
) -> Iterator[tuple[int, int, int, bool]]:
    """Find view i like a window of view j: i, j, the window's place, and whether it is mirrored.

    Of two views either may be the cropped one; the likelier is yielded. Two images with their frames are not compared:
    all frames of one width look alike.
    """
    windowed = [_described(lightness, window) for window in WINDOWS]
    signs = (np.float32(1), COARSE.mirror)
    best: dict[tuple[int, int], tuple[float, int, int, int, bool]] = {}
    for start in range(0, len(lightness), AT_ONCE):
        block = windowed[0][start : start + AT_ONCE]
        score = np.full((len(block), len(lightness)), -1, dtype=np.float32)
        for sign in signs:
            signed = block * sign
            for others in windowed:
                np.maximum(score, signed @ others.T, out=score)
        stretch = slice(start, start + len(block))
        score[(owners[stretch, None] == owners) | (framed[stretch, None] & framed)] = -1
        rows, columns = np.nonzero(score >= CANDIDATE)
        ways = [[((block[rows] * sign) * others[columns]).sum(1) for others in windowed] for sign in signs]
        way = np.concatenate(ways).argmax(0)
        scores = score[rows, columns].tolist()
        for i, j, value, k in zip((rows + start).tolist(), columns.tolist(), scores, way.tolist(), strict=True):
            pair = (min(i, j), max(i, j))
            if pair not in best or best[pair][0] < value:
                best[pair] = value, i, j, k % len(WINDOWS), k >= len(WINDOWS)
    for _, i, j, place, mirrored in best.values():
        yield i, j, place, mirrored


def _described(lightness: NDArray[np.uint8], window: Window) -> FloatArray:
    """Describe a window of every view by its coarse waves, (n_views, n_waves)."""
    rows, columns = (_analysis(*margins, SIDE, COARSE.highest) for margins in window)
    parts = [
        COARSE.of(rows @ lightness[i : i + AT_ONCE].astype(np.float32) @ columns.T)
        for i in range(0, len(lightness), AT_ONCE)
    ]
    return np.concatenate(parts)


def _agree(whole: ImageView, cropped: ImageView, window: Window, mirrored: bool) -> bool:
    """Tell whether a view is the window of another, moved a little, in lightness and in colour."""
    if _colour(whole, cropped, window, mirrored) < ROUGH_COLOUR:
        return False
    reached = 0.0
    for waves, step in STEPS:
        if waves is FINE and reached < ALIGNED:
            return False
        target = _lit(whole.lightness, WINDOWS[0], waves) * (waves.mirror if mirrored else 1)
        window, reached = _moved(cropped.lightness, target, window, waves, step)
    one, other = _lit(whole.lightness, WINDOWS[0], FINE), _lit(cropped.lightness, window, FINE)
    n_waves = min(1 / float((one**4).sum()), 1 / float((other**4).sum()))
    z = np.arctanh(min(reached, 1 - 1e-6)) * np.sqrt(max(n_waves - 3, 0))
    return bool(reached >= LIKE and z >= SURE and _colour(whole, cropped, window, mirrored) >= COLOUR)


def _lit(lightness: NDArray[np.uint8], window: Window, waves: Waves) -> FloatArray:
    rows, columns = (_analysis(*margins, SIDE, waves.highest) for margins in window)
    return waves.of(rows @ lightness.astype(np.float32) @ columns.T)


def _moved(
    lightness: NDArray[np.uint8], target: FloatArray, window: Window, waves: Waves, step: float
) -> tuple[Window, float]:
    """Move the margins of rows and columns by a step each to where the window is most like the target."""
    pixels, (rows, columns), reached = lightness.astype(np.float32), window, -1.0
    for _ in range(2):
        tried = _tried(rows, step)
        across = pixels @ _analysis(*columns, SIDE, waves.highest).T
        likeness = waves.of(np.stack([_analysis(*one, SIDE, waves.highest) for one in tried]) @ across) @ target
        rows = tried[int(likeness.argmax())]
        tried = _tried(columns, step)
        down = _analysis(*rows, SIDE, waves.highest) @ pixels
        moved = np.stack([_analysis(*one, SIDE, waves.highest) for one in tried])
        likeness = waves.of(down @ moved.transpose(0, 2, 1)) @ target
        columns, reached = tried[int(likeness.argmax())], float(likeness.max())
    return (rows, columns), reached


@lru_cache(maxsize=4096)
def _tried(margins: tuple[float, float], step: float) -> list[tuple[float, float]]:
    return [
        (round(max(0.0, margins[0] + a * step), 5), round(max(0.0, margins[1] + b * step), 5))
        for a in (0, -1, 1)
        for b in (0, -1, 1)
    ]


def _colour(whole: ImageView, cropped: ImageView, window: Window, mirrored: bool) -> float:
    """Compare the colours of a view with those of the window of another: their cosine; 1 where one of them is grey."""
    every, (rows, columns) = _analysis(0.0, 0.0, COLOUR_SIDE, 3), (_analysis(*m, COLOUR_SIDE, 3) for m in window)
    one, other = every @ whole.colours @ every.T, rows @ cropped.colours @ columns.T
    if mirrored:
        one = one * (-1.0) ** np.arange(4)
    sizes = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    return float((one * other).sum() / (sizes[0] * sizes[1])) if min(sizes) >= GREY else 1.0
