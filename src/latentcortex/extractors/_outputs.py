"""Outputs of a latent diffusion model made smaller: layers pooled and projected, all averaged over noise draws."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcortex._arrays import FloatArray, random_for
from latentcortex.errors import InputError
from latentcortex.features import SPREAD

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_array

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class LayerReduction:
    """How the outputs of layers are made smaller.

    Parameters
    ----------
    pool : int
        Rows and columns of the grid over whose fields outputs are averaged; 0 keeps every position.
    n_projected : int
        Number of sparse random directions that wider outputs are projected onto; 0 keeps all dimensions.
    seed : int
        Seed of the random directions.
    """

    pool: int
    n_projected: int
    seed: int
    _directions: dict[tuple[str, int], csr_array] = field(default_factory=dict, init=False, repr=False)

    def width(self, shape: tuple[int, ...]) -> int:
        """Count the dimensions that are kept of a layer's output (n_channels, height, width)."""
        if self.pool and len(shape) != 3:
            raise InputError(f"pool needs maps; a layer of shape {shape} has no places. Name another, or set pool = 0.")
        if self.pool:
            shape = (shape[0], *(min(side, self.pool) for side in shape[1:]))
        width = int(np.prod(shape))
        return min(width, self.n_projected) if self.n_projected else width

    def reduce(self, values: torch.Tensor, layer: str | None) -> FloatArray:
        """Reduce a layer's output, (n_stimuli, n_dims); latents, which belong to no layer, are kept as they are."""
        import torch

        if layer is None:
            return rows_of(values)
        if self.pool:
            height, width = (min(side, self.pool) for side in values.shape[2:])
            values = torch.nn.functional.adaptive_avg_pool2d(values, (height, width))
        rows = rows_of(values)
        if self.n_projected and rows.shape[1] > self.n_projected:
            rows = np.ascontiguousarray((self._projection(layer, rows.shape[1]) @ rows.T).T, dtype=np.float32)
        return rows

    def _projection(self, layer: str, width: int) -> csr_array:
        """Draw very sparse random directions, (n, width), once for each layer; lengths are kept on average."""
        if (layer, width) not in self._directions:
            from sklearn.random_projection import SparseRandomProjection

            seed = int(random_for(self.seed, "projection", layer, width, self.n_projected).integers(2**31))
            projection = SparseRandomProjection(self.n_projected, random_state=seed)
            projection.fit(np.zeros((1, width), dtype=np.float32))
            self._directions[layer, width] = projection.components_.astype(np.float32)
        return self._directions[layer, width]


def rows_of(values: torch.Tensor) -> FloatArray:
    """Put the values of each stimulus into a row, (n_stimuli, n_dims), float32."""
    return np.asarray(values.flatten(1).cpu().numpy(), dtype=np.float32)


def average_over_seeds(runs: Iterator[dict[str, FloatArray]]) -> dict[str, FloatArray]:
    """Average bands over noise draws.

    Parameters
    ----------
    runs : iterator of dict
        For each seed: band -> ndarray of shape (n_stimuli, n_dims).

    Returns
    -------
    dict
        The means and, if there are several seeds, `spread.BAND`: the variance over seeds summed over dimensions,
        (n_stimuli,).
    """
    mean = next(runs)
    squares = {name: np.zeros(values.shape) for name, values in mean.items()}
    n = 1
    for n, of_seed in enumerate(runs, start=2):
        for name, values in of_seed.items():
            change = values.astype(np.float64) - mean[name]
            mean[name] = mean[name] + change / n
            squares[name] += change * (values - mean[name])
    if n == 1:
        return mean
    spread = {f"{SPREAD}{name}": (summed.sum(1) / (n - 1)).astype(np.float32) for name, summed in squares.items()}
    return {**{name: values.astype(np.float32) for name, values in mean.items()}, **spread}


def resize(images: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Bring images (n, height, width, 3) to a square of so many pixels."""
    size = (pixels, pixels)
    if images.shape[1:3] == size:
        return images
    logger.info("Images of %s were resized to %s for the model.", images.shape[1:3], size)
    return np.stack([np.asarray(Image.fromarray(i).resize(size, Image.Resampling.LANCZOS)) for i in images])
