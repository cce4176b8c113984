"""The phantom's stimuli: captioned scenes, drawn procedurally and reproducibly.

Every scene shows one object before one background. Six attributes can be named in a caption (scene,
colour, shape, size, row, column); what no caption ever names (exact position, rotation, horizon, light,
tint, texture) is the *appearance*, and only the image knows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PIXELS: Final = 64
"""Height and width of an image."""

BACKGROUNDS: Final[dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]]] = {
    # name: colour of the upper sky, of the lower sky, of the ground
    "desert": ((250, 214, 165), (255, 236, 200), (214, 160, 92)),
    "sea": ((150, 205, 235), (215, 240, 250), (28, 92, 150)),
    "moonscape": ((10, 10, 38), (38, 34, 80), (84, 84, 92)),
    "meadow": ((128, 190, 245), (214, 236, 255), (92, 160, 62)),
    "city": ((176, 164, 172), (226, 206, 196), (98, 96, 104)),
    "snow": ((176, 200, 220), (226, 236, 244), (240, 244, 250)),
}
COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (214, 32, 38),
    "orange": (250, 130, 20),
    "yellow": (250, 225, 40),
    "green": (20, 130, 60),
    "cyan": (40, 215, 215),
    "blue": (30, 60, 215),
    "purple": (130, 40, 170),
    "pink": (250, 130, 190),
}
SHAPES: Final = ("circle", "square", "triangle", "star", "ring", "cross")
SIZES: Final[dict[str, float]] = {"small": 10.0, "large": 14.5}  # radius in pixels
ROWS: Final[dict[str, float]] = {"top": 0.26, "middle": 0.5, "bottom": 0.74}
COLUMNS: Final[dict[str, float]] = {"left": 0.26, "centre": 0.5, "right": 0.74}

ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "scene": tuple(BACKGROUNDS),
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "size": tuple(SIZES),
    "row": tuple(ROWS),
    "column": tuple(COLUMNS),
}
"""Each attribute that a caption can name, with its words."""

WORDS: Final = ("a", "thing", "at", "the", "of", "in", "with", "scene", "picture", "showing")
"""The other words of the captions."""


@dataclass(frozen=True)
class Scene:
    """The attributes of one image that a caption can name, one word each."""

    scene: str
    colour: str
    shape: str
    size: str
    row: str
    column: str


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene with every attribute uniform and independent."""
    return Scene(**{name: words[int(rng.integers(len(words)))] for name, words in ATTRIBUTES.items()})


def caption(scene: Scene, *, leave_out: frozenset[str] = frozenset(), template: int = 0) -> str:
    """Put a scene into words, with some attributes left out.

    Parameters
    ----------
    scene : Scene
    leave_out : frozenset of str
        Attributes that the caption does not name (`row` and `column` are named or left out together).
    template : int
        0 names the object first, 1 the background.

    Examples
    --------
    >>> caption(Scene("desert", "red", "star", "large", "top", "left"))
    'a large red star at the top left of a desert'
    >>> caption(Scene("sea", "blue", "ring", "small", "top", "left"), leave_out=frozenset({"shape", "row"}))
    'a small blue thing in a sea'
    """
    adjectives = [getattr(scene, name) for name in ("size", "colour") if name not in leave_out]
    noun_phrase = " ".join(["a", *adjectives, "thing" if "shape" in leave_out else scene.shape])
    place = "" if "row" in leave_out else f"at the {scene.row} {scene.column}"
    ground = "" if "scene" in leave_out else f"a {scene.scene}"
    if template == 1 and ground:
        return " ".join(f"{ground} scene with {noun_phrase} {place}".split())
    link = ("of" if place else "in") if ground else ""
    return " ".join(f"{noun_phrase} {place} {link} {ground}".split())


def captions(scene: Scene, rng: np.random.Generator, *, n_captions: int = 5, drop: float = 0.15) -> list[str]:
    """Describe a scene `n_captions` times, each leaving out each attribute with probability `drop`."""
    names = ("scene", "colour", "shape", "size", "row")
    return [
        caption(
            scene,
            leave_out=frozenset(name for name in names if rng.random() < drop),
            template=int(rng.random() < 0.4),
        )
        for _ in range(n_captions)
    ]


def render(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the image of a scene; what captions do not name comes from `rng`.

    Returns
    -------
    ndarray of uint8, shape (64, 64, 3)
        RGB.
    """
    appearance = _Appearance.draw(rng)
    y, x = np.mgrid[0:PIXELS, 0:PIXELS].astype(np.float64)
    image = _background(scene.scene, x, y, appearance, rng)
    distance = _object_distance(scene, x, y, appearance)
    colour = np.array(COLOURS[scene.colour], dtype=np.float64)
    shading = 1.0 + 0.10 * (0.5 - y / PIXELS)
    inside = np.clip(0.5 - distance, 0, 1)[..., None]
    outline = np.clip(0.5 - (np.abs(distance) - 0.9), 0, 1)[..., None]
    image = image * (1 - inside) + colour * shading[..., None] * inside
    image = image * (1 - 0.75 * outline) + 0.75 * outline * (0.25 * colour)
    lit = image * appearance.light * appearance.tint
    return np.asarray(np.clip(np.rint(lit), 0, 255), dtype=np.uint8)


@dataclass(frozen=True)
class _Appearance:
    """The appearance of one image, which no caption names: shifts in pixels, angles in radians, factors of light."""

    dx: float
    dy: float
    turn: float
    horizon: float
    light: float
    tint: NDArray[np.float64]
    phase: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Appearance:
        return cls(
            dx=float(rng.uniform(-3, 3)),
            dy=float(rng.uniform(-3, 3)),
            turn=float(rng.uniform(-0.25, 0.25)),
            horizon=float(rng.uniform(0.42, 0.72)),
            light=float(rng.uniform(0.8, 1.08)),
            tint=1.0 + rng.uniform(-0.06, 0.06, size=3),
            phase=float(rng.uniform(0, 2 * np.pi)),
        )


def _background(
    name: str,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    appearance: _Appearance,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw sky and ground, and the stars of the moonscape, as float RGB in 0..255."""
    upper, lower, ground = (np.array(c, dtype=np.float64) for c in BACKGROUNDS[name])
    level = appearance.horizon * PIXELS
    height = np.clip(y / level, 0, 1)[..., None]
    sky = upper * (1 - height) + lower * height
    edge = level + _skyline(name, x, appearance, rng)
    below = np.clip(y - edge + 0.5, 0, 1)[..., None]
    texture = _ground_texture(name, x, y, appearance)[..., None]
    image = sky * (1 - below) + ground * texture * below
    if name == "moonscape":
        for column, row in rng.integers(2, PIXELS - 2, size=(14, 2)):
            if row < edge.min() - 1:
                image[row, column] = (250, 245, 215)
    return np.asarray(image)


def _skyline(
    name: str, x: NDArray[np.float64], appearance: _Appearance, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Compute how far the ground's edge lies below (+) or above (-) the horizon, in pixels."""
    if name == "desert":
        return np.asarray(4.0 * np.sin(2 * np.pi * x / 46 + appearance.phase))
    if name == "city":
        roofs = np.repeat(rng.uniform(2, 18, size=11), 6)[:PIXELS]
        return np.asarray(-roofs[x.astype(int)])
    if name == "snow":
        peaks = np.abs(((x / 26 + appearance.phase) % 1.0) - 0.5) * 2
        return np.asarray(-13.0 * peaks)
    if name == "meadow":
        return np.asarray(2.0 * np.sin(2 * np.pi * x / 90 + appearance.phase))
    return np.zeros_like(x)


def _ground_texture(
    name: str, x: NDArray[np.float64], y: NDArray[np.float64], appearance: _Appearance
) -> NDArray[np.float64]:
    """Compute a factor near 1 by which the ground's colour is multiplied."""
    if name == "sea":
        return np.asarray(1.0 + 0.22 * np.sin(2 * np.pi * y / 6 + 0.8 * np.sin(x / 6 + appearance.phase)))
    if name == "city":
        return np.asarray(1.0 + 0.08 * ((x.astype(int) // 3 + y.astype(int) // 3) % 2))
    if name == "meadow":
        return np.asarray(1.0 + 0.07 * np.sin(x * 1.1 + appearance.phase) * np.sin(y * 0.7))
    return np.ones_like(x)


def _object_distance(
    scene: Scene, x: NDArray[np.float64], y: NDArray[np.float64], appearance: _Appearance
) -> NDArray[np.float64]:
    """Compute the signed distance of each pixel to the object's edge, in pixels, negative inside."""
    u = x - (COLUMNS[scene.column] * PIXELS + appearance.dx)
    v = y - (ROWS[scene.row] * PIXELS + appearance.dy)
    cos, sin = np.cos(appearance.turn), np.sin(appearance.turn)
    return _shape_distance(scene.shape, cos * u + sin * v, cos * v - sin * u, SIZES[scene.size])


def _shape_distance(shape: str, u: NDArray[np.float64], v: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Compute the signed distance to the edge of a shape centred on 0, in pixels; `radius` is its size in pixels."""
    distance: Any
    if shape == "circle":
        distance = np.hypot(u, v) - radius
    elif shape == "ring":
        distance = np.abs(np.hypot(u, v) - 0.74 * radius) - 0.26 * radius
    elif shape == "square":
        distance = np.maximum(np.abs(u), np.abs(v)) - 0.84 * radius
    elif shape == "cross":
        bar = 0.3 * radius
        distance = np.minimum(
            np.maximum(np.abs(u) - bar, np.abs(v) - radius),
            np.maximum(np.abs(u) - radius, np.abs(v) - bar),
        )
    elif shape == "triangle":
        slope = np.abs(u) * np.sqrt(3) / 2 - v / 2
        distance = np.maximum(slope - 0.52 * radius, v - 0.62 * radius)
        distance = np.maximum(distance, -v - 1.1 * radius)
    else:
        distance = _star_distance(u, v, radius)
    return np.asarray(distance)


def _star_distance(u: NDArray[np.float64], v: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Fold the plane into one of ten sectors and measure to the edge from a tip to a notch."""
    sector = np.pi / 5
    angle = np.abs((np.arctan2(u, -v) + sector) % (2 * sector) - sector)
    along, across = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    tip = np.array([1.12 * radius, 0.0])
    notch = 0.46 * radius * np.array([np.cos(sector), np.sin(sector)])
    edge = notch - tip
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return np.asarray((along - tip[0]) * normal[0] + across * normal[1])
