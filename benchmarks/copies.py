"""Copies of images that `check` finds, and unlike images that it takes for copies.

Copies are made of the photographs that come with scikit-image, scikit-learn and matplotlib, and of square parts of them
that show something; each image is compared with one copy of itself. Mistakes are counted among all pairs of unlike
images: the photographs, their parts (pairs that do not overlap), images drawn from noise whose amplitude falls with
frequency as in photographs, small faces and their surroundings, and the phantom's drawn scenes, of which many have
the same composition.

Run it from the root of the repository:

    python benchmarks/copies.py --seconds 10000

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import lfw_subset

from latentcortex._copies import View, copies, views
from latentcortex.datasets.phantom import draw_stimuli, stimulus_ids
from latentcortex.executors import n_cores

Pixels = np.ndarray
Part = tuple[str, tuple[int, int, int], Pixels]
SEED = 0
SIDE = 256
"""Height and width of the images, in pixels."""
PARTS = (100, 160, 250)
"""Height and width of parts of photographs, in pixels."""
SHOWS = 16.0
"""Standard deviation of a part's lightness from which it shows something."""
PHOTOGRAPHS = {
    "skimage/data": "astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png coins.png "
    "grass.png gravel.png hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png retina.jpg rocket.jpg",
    "sklearn/datasets/images": "china.jpg flower.jpg",
    "matplotlib/mpl-data/sample_data": "grace_hopper.jpg",
}


def photographs() -> dict[str, Pixels]:
    images = {}
    for place, names in PHOTOGRAPHS.items():
        package, _, inside = place.partition("/")
        folder = Path(find_spec(package).origin).parent / inside
        images |= {name: np.asarray(Image.open(folder / name).convert("RGB")) for name in names.split()}
    return images


def sized(image: Pixels, side: int = SIDE) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def parts(images: dict[str, Pixels]) -> Iterator[Part]:
    """Cut squares of three sizes that show something: name of the photograph, row, column, size, and the square."""
    for name, image in images.items():
        height, width = image.shape[:2]
        for side in PARTS:
            for row in range(0, height - side + 1, side):
                for column in range(0, width - side + 1, side):
                    part = image[row : row + side, column : column + side]
                    if np.asarray(Image.fromarray(part).convert("L")).std() >= SHOWS:
                        yield name, (row, column, side), sized(part)


def overlap(one: Part, other: Part) -> bool:
    (name, (y, x, side), _), (other_name, (v, u, width), _) = one, other
    return name == other_name and y < v + width and v < y + side and x < u + width and u < x + side


def noise(n: int, rng: np.random.Generator, side: int = SIDE) -> Iterator[Pixels]:
    """Draw coloured noise whose amplitude is inverse to its frequency."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    frequency[0, 0] = 1
    mix = np.array([[1, 1, 1], [0.3, -0.1, -0.2], [0.1, -0.2, 0.1]])
    for _ in range(n):
        waves = np.fft.fft2(rng.standard_normal((3, side, side))) / frequency
        image = np.einsum("cij,cd->ijd", np.fft.ifft2(waves).real, mix)
        yield clipped((image - image.mean()) / image.std() * 50 + 128)


def clipped(values: np.ndarray) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def jpeg(image: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def grey(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


def resized(image: Pixels, side: int) -> Pixels:
    return sized(sized(image, side), image.shape[0])


def cropped(image: Pixels, top: float, bottom: float, left: float, right: float) -> Pixels:
    """Cut off shares of the height and width, and bring what is left to the size of the whole."""
    height, width = image.shape[:2]
    rows, columns = slice(round(top * height), height - round(bottom * height)), slice(round(left * width), None)
    return sized(image[rows, columns][:, : width - round(left * width) - round(right * width)], height)


def framed(image: Pixels, share: float, colour: tuple[int, int, int], *, bars: bool = False) -> Pixels:
    """Shrink an image within a frame of this share of its size at each side, or between bars above and below."""
    height, width = image.shape[:2]
    inner = round(height * (1 - 2 * share)), width if bars else round(width * (1 - 2 * share))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    out = np.empty_like(image)
    out[:] = colour
    small = Image.fromarray(image).resize(inner[::-1], Image.Resampling.BICUBIC)
    out[top : top + inner[0], left : left + inner[1]] = small
    return out


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (200, 30, 30)
ALTERED: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG of quality 60": lambda i: jpeg(i, 60),
    "JPEG of quality 30": lambda i: jpeg(i, 30),
    "half the size and back": lambda i: resized(i, SIDE // 2),
    "50 levels brighter": lambda i: clipped(i + 50.0),
    "1.4 times as bright": lambda i: clipped(i * 1.4),
    "0.6 times as bright": lambda i: clipped(i * 0.6),
    "gamma of 0.6": lambda i: clipped(255 * (i / 255) ** 0.6),
    "half the contrast": lambda i: clipped((i - 128.0) / 2 + 128),
    "grey": grey,
    "black frame of 5 %": lambda i: framed(i, 0.05, BLACK),
    "white frame of 10 %": lambda i: framed(i, 0.1, WHITE),
    "red frame of 10 %, JPEG of quality 60": lambda i: jpeg(framed(i, 0.1, RED), 60),
    "black bars of 12 % above and below": lambda i: framed(i, 0.12, BLACK, bars=True),
    "mirrored": lambda i: i[:, ::-1].copy(),
    "mirrored, grey, JPEG of quality 60": lambda i: jpeg(grey(i[:, ::-1]), 60),
    "cropped by 10 %, 5 % at each side": lambda i: cropped(i, 0.05, 0.05, 0.05, 0.05),
    "cropped by 10 % at the left": lambda i: cropped(i, 0, 0, 0.1, 0),
    "cropped by 10 % at two sides": lambda i: cropped(i, 0.1, 0, 0, 0.1),
    "cropped by 2 and 8 %, 7 and 3 %": lambda i: cropped(i, 0.02, 0.08, 0.07, 0.03),
    "cropped by 10 % of its area": lambda i: cropped(i, 0.026, 0.026, 0.026, 0.026),
    "cropped by 10 % at two sides, mirrored": lambda i: cropped(i[:, ::-1], 0, 0.1, 0, 0.1),
    "cropped by 10 %, black frame of 10 %": lambda i: framed(cropped(i, 0.05, 0.05, 0.05, 0.05), 0.1, BLACK),
}


def shares_found(images: list[Pixels]) -> dict[str, float]:
    """Share of images of which each copy is found, compared with nothing else."""
    seen = [views(image) for image in images]
    return {
        name: float(
            np.mean([copies([whole, views(alter(i))]) == [(0, 1)] for whole, i in zip(seen, images, strict=True)])
        )
        for name, alter in ALTERED.items()
    }


def unlike(taken: dict[str, list[Pixels]], squares: list[Part]) -> dict[str, tuple[int, int]]:
    """Count mistakes among pairs: how many, of how many."""
    pairs = [(i, j) for i in range(len(squares)) for j in range(i) if not overlap(squares[i], squares[j])]
    alike = [(j, i) for i, j in copies([views(image) for _, _, image in squares])]
    counts = {}
    for name, same in (("parts of different photographs", False), ("parts of one photograph, apart", True)):
        among = {(i, j) for i, j in pairs if (squares[i][0] == squares[j][0]) == same}
        counts[name] = len(among.intersection(alike)), len(among)
    for name, images in taken.items():
        counts[name] = len(copies([views(image) for image in images])), len(images) * (len(images) - 1) // 2
    return counts


def seconds_of(n: int) -> dict[str, float]:
    """Time the comparison of so many thumbnails of noise, which are drawn small: reading images is no part of it."""
    rng = np.random.default_rng(SEED)
    colours = np.zeros((2, 16, 16), np.float32)
    seen = [(View(np.asarray(Image.fromarray(image).convert("L")), colours),) for image in noise(n, rng, 48)]
    wall, processor = time.perf_counter(), time.process_time()
    copies(seen)
    return {
        "images": n,
        "seconds": round(time.perf_counter() - wall, 1),
        "processor seconds": round(time.process_time() - processor, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=int, default=2000, help="images drawn from noise")
    parser.add_argument("--scenes", type=int, default=1200, help="drawn scenes of the phantom")
    parser.add_argument("--seconds", type=int, default=0, help="time the comparison of so many images")
    given = parser.parse_args()
    rng = np.random.default_rng(SEED)
    whole, squares = photographs(), list(parts(photographs()))
    chosen = [squares[i][2] for i in np.sort(rng.choice(len(squares), 150, replace=False))]
    photos = [sized(image) for image in whole.values()]
    scenes = draw_stimuli(stimulus_ids(max(given.scenes - 300, 2), min(300, given.scenes - 2)))
    drawn = [scenes.load(name) for name in scenes.ids]
    kinds = {"photographs": photos, "parts": chosen, "scenes": drawn[:50]}
    rates = {kind: shares_found(images) for kind, images in kinds.items()}
    print(f"{'copy':<42}" + "".join(f"{kind + ' ' + str(len(images)):>17}" for kind, images in kinds.items()))
    for name in ALTERED:
        print(f"{name:<42}" + "".join(f"{rates[kind][name]:>17.3f}" for kind in kinds))
    faces = [sized(np.repeat(clipped(255 * face)[..., None], 3, axis=2), 100) for face in lfw_subset()]
    sets = {"photographs": photos, "noise": list(noise(given.noise, rng)), "faces and surroundings": faces}
    mistakes = unlike({**sets, "scenes of the phantom": drawn}, squares)
    for name, (n, of) in mistakes.items():
        print(f"{name:<42}{n:>8} of {of} pairs taken for copies")
    timed = seconds_of(given.seconds) if given.seconds else {}
    versions = {name: version(name) for name in ("numpy", "pillow", "scikit-image", "scikit-learn", "matplotlib")}
    machine = {"processor": platform.processor() or platform.machine(), "cores": n_cores()}
    print(json.dumps({"found": rates, "mistakes": mistakes, "timed": timed, **machine, "versions": versions}))


if __name__ == "__main__":
    main()
