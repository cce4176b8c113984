"""A small convolutional network that reads the attributes of a scene off an image; bundled, in plain numpy.

It belongs to the phantom, the simulated participant that comes with the package, who saw drawn scenes. It was trained
by training/phantom_probe.py on such scenes, and on the same scenes encoded and decoded by the VAE of the phantom's
diffusion model.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray
from latentcortex.datasets.phantom.scenes import ATTRIBUTES, PIXELS
from latentcortex.errors import InputError
from latentcortex.executors import one_thread

WEIGHTS: Final = Path(__file__).parent / "probe.npz"
"""Weights of the layers, made by training/phantom_probe.py."""

LAYERS: Final = ("conv0", "conv1", "conv2", "conv3")
"""The convolutions, whose outputs are 32, 16, 8 and 4 pixels wide."""
HEADS: Final = ("scene", "colour", "shape", "row", "column")
"""Attributes that have a linear head each, on all values of the last convolution."""
PLACES: Final = tuple(f"{row} {column}" for row in ATTRIBUTES["row"] for column in ATTRIBUTES["column"])


class SceneProbe:
    """Reads attributes off images of scenes.

    Parameters
    ----------
    weights : Path
        File of arrays; it is opened when the first image is read.

    Attributes
    ----------
    attributes : dict
        Attribute -> its classes, in the order of the log-probabilities; `place` is row and column together.
    """

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self.attributes = {name: ATTRIBUTES[name] for name in ("scene", "colour", "shape")} | {"place": PLACES}
        self._path = weights

    @one_thread()
    def read(self, images: NDArray[np.uint8]) -> dict[str, FloatArray]:
        """Read images; what is read from one does not depend on the others, to the last bit.

        Parameters
        ----------
        images : ndarray of uint8, shape (n_images, 64, 64, 3)

        Returns
        -------
        dict
            Attribute -> log-probabilities of its classes, float32 of shape (n_images, n_classes).

        Raises
        ------
        InputError
            If the images have another size or type.
        """
        if images.shape[1:] != (PIXELS, PIXELS, 3) or images.dtype != np.uint8:
            raise InputError(
                f"The phantom's probe reads images (n, {PIXELS}, {PIXELS}, 3) of uint8; got {images.shape} of "
                f"{images.dtype}: bring them to that size."
            )
        scores = {name: np.empty((len(images), len(classes)), np.float32) for name, classes in self.attributes.items()}
        for i, image in enumerate(images):  # one at a time: a product over several rounds differently by their number
            for name, values in self._read_one(image).items():
                scores[name][i] = values
        return scores

    def _read_one(self, image: NDArray[np.uint8]) -> dict[str, FloatArray]:
        """Read an image (64, 64, 3): attribute -> log-probabilities (n_classes,)."""
        x: FloatArray = image.astype(np.float32) / np.float32(127.5) - np.float32(1)
        for name in LAYERS:
            x = _convolved(x, self._weights[f"{name}_weight"], self._weights[f"{name}_bias"])
        flat = x.transpose(2, 0, 1).reshape(-1)  # channels first, as the heads were trained
        heads = {name: (self._weights[f"head_{name}_weight"], self._weights[f"head_{name}_bias"]) for name in HEADS}
        log_p = {name: _log_softmax(weight @ flat + bias) for name, (weight, bias) in heads.items()}
        place = log_p.pop("row")[:, None] + log_p.pop("column")[None, :]
        return {**log_p, "place": place.reshape(-1)}

    @cached_property
    def _weights(self) -> dict[str, FloatArray]:
        with np.load(self._path, allow_pickle=False) as stored:
            return {name: stored[name].astype(np.float32) for name in stored.files}


def _convolved(x: FloatArray, weight: FloatArray, bias: FloatArray) -> FloatArray:
    """Convolve 3 x 3 with padding 1 and stride 2, add the bias, and apply a ReLU.

    Parameters
    ----------
    x : ndarray of shape (height, width, n_in)
    weight : ndarray of shape (n_out, n_in, 3, 3)
    bias : ndarray of shape (n_out,)

    Returns
    -------
    ndarray of shape (height / 2, width / 2, n_out)
    """
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = sliding_window_view(padded, (3, 3), axis=(0, 1))[::2, ::2]  # (height / 2, width / 2, n_in, 3, 3)
    height, width = windows.shape[:2]
    product = windows.reshape(height * width, -1) @ weight.reshape(len(bias), -1).T
    return np.maximum(product + bias, 0).reshape(height, width, len(bias))


def _log_softmax(logits: FloatArray) -> FloatArray:
    """Turn logits (n_classes,) into log-probabilities."""
    centred = logits - logits.max()
    return np.asarray(centred - np.log(np.exp(centred).sum()))
