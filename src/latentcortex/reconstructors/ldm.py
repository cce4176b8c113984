"""Images from decoded latents by the latent diffusion model that the features came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, finite_number, passes, random_for, whole_number, words
from latentcortex._hub import weights_hash
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.extractors.ldm import BATCH, STABLE
from latentcortex.extractors.ldm import LDM as Extractor
from latentcortex.features import Features
from latentcortex.reconstructors import Side
from latentcortex.stimuli import Stimuli

if TYPE_CHECKING:
    import torch

ROUTES: Final = {"zc": ("z", "c"), "z": ("z",), "c": ("c",)}


class LDM:
    """Reconstruction by latent diffusion, and its two halves as controls.

    Routes: `z` decodes z to a coarse image and stops there; `c` denoises pure noise with the decoded c through
    all steps; `zc` encodes the coarse image of `z` again, noises it to a strength and denoises it with the
    decoded c. What the two controls are, the paper leaves open.

    Parameters
    ----------
    model : str
        `phantom`, or a folder in the layout of Stable Diffusion; the model that z and c are features of.
    routes : sequence of str
        Which of the three; of Stable Diffusion XL and 3, which are told pooled text besides c, only `z`.
    strength : int
        Noise of `zc`, percent.
    guidance : float
        Weight of the text against the empty text; 1 is none.
    n_steps : int
        Length of the whole timestep grid; 0 is 10 for the phantom and 50 otherwise.
    n_samples : int
        Images per stimulus, each from noise of its own; `z` has one, since it draws none.
    revision : str
        The commit of a model from the hub; known for the default.
    seed : int
        For the noise: sample k of a stimulus has the same in `c` and in `zc`.

    Raises
    ------
    InputError
        If a value is not possible.
    MissingExtraError
        If torch, diffusers or transformers is not installed.

    References
    ----------
    Takagi and Nishimoto (2023), doi:10.1109/CVPR52729.2023.01389
    """

    def __init__(
        self,
        model: str = STABLE,
        *,
        routes: Sequence[str] = tuple(ROUTES),
        strength: int = 80,
        guidance: float = 5.0,
        n_steps: int = 0,
        n_samples: int = 5,
        seed: int = 0,
        revision: str = "",
    ) -> None:
        self._routes = words("routes", routes)
        for route in self._routes:
            if route not in ROUTES:
                raise unknown("route of ldm", route, ROUTES)
        self._n_samples = whole_number("n_samples", n_samples, least=1)
        self.strength = whole_number("strength", strength, least=1)
        self.guidance, self.seed = finite_number("guidance", guidance), whole_number("seed", seed, least=0)
        n_steps = whole_number("n_steps", n_steps, least=0)
        if strength > 100 or (n_steps and strength * n_steps < 100):
            raise InputError(f"A strength of {strength} % of {n_steps} steps must be 1..100 % and at least one step.")
        self._source = Extractor(
            model, strengths=[strength], n_steps=n_steps, bands=["z", "c"], seed=seed, revision=revision
        )
        self.n_steps = self._source.n_steps
        told = [route for route in self._routes if "c" in ROUTES[route]]
        if told and (self._source.folder / "text_encoder_2").is_dir():
            raise InputError(
                f"Route {told[0]} needs the pooled text that this model is told besides c; use routes = ['z']."
            )

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """The routes that were asked for, and the bands that each needs."""
        return {route: ROUTES[route] for route in self._routes}

    @property
    def made_by(self) -> dict[str, Any]:
        """What the images depend on."""
        return {
            "name": "ldm",
            "version": 1,
            "weights": weights_hash(self._source.folder),
            "strength": self.strength,
            "guidance": self.guidance,
            "n_steps": self.n_steps,
            "scheduler": "DDIM, eta 0",
            "batch": BATCH,
            "seed": self.seed,
        }

    def fit(self, features: Features, stimuli: Stimuli, sides: Sequence[Side]) -> Self:
        """Do nothing: the model is fixed."""
        return self

    def n_samples(self, route: str) -> int:
        """How many images of one stimulus a route makes."""
        return 1 if route == "z" else self._n_samples

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one z and one c."""
        model = self._source.parts
        side = self._source.pixels // 2 ** (len(model.vae.config.block_out_channels) - 1)
        text = model.text_encoder.config
        return {
            "z": (model.vae.config.latent_channels, side, side),
            "c": (text.max_position_embeddings, text.hidden_size),
        }

    def reconstruct(
        self, route: str, latents: Mapping[str, FloatArray], ids: Sequence[str], n_samples: int
    ) -> NDArray[np.uint8]:
        """Make images in padded passes, (n_stimuli, n_samples, height, width, 3).

        Raises
        ------
        AlignmentError
            If a band has not the model's number of dimensions.
        """
        import torch

        from latentcortex import _ldm

        model, bands = self._source.parts, {band: self._shaped(band, latents) for band in ROUTES[route]}
        z, n_own = None, self.n_steps
        if "z" in bands:
            coarse = np.concatenate([_ldm.decode(model, bands["z"][b])[:n] for b, n in passes(len(ids), BATCH)])
            if route == "z":
                return coarse[:, None]
            z = torch.cat([_ldm.encode_images(model, coarse[b])[:n] for b, n in passes(len(ids), BATCH)])
            n_own = _ldm.n_steps_of(self.strength, self.n_steps)
        rows = [(i, k) for i in range(len(ids)) for k in range(n_samples)]
        own = np.array([i for i, _ in rows])
        noise = torch.from_numpy(np.stack([self._noise(ids[i], k) for i, k in rows]))
        images = []
        for b, n in passes(len(rows), BATCH):
            x = noise[b] if z is None else _ldm.noised(model, z[own[b]], noise[b], n_own=n_own, n_steps=self.n_steps)
            c = _ldm.Conditioning(bands["c"][own[b]], pixels=self._source.pixels)
            x = _ldm.denoised(model, x, c, n_own=n_own, n_steps=self.n_steps, guidance=self.guidance)
            images.append(_ldm.decode(model, x)[:n])
        return np.concatenate(images).reshape(len(ids), n_samples, *images[0].shape[1:])

    def _shaped(self, band: str, latents: Mapping[str, FloatArray]) -> torch.Tensor:
        import torch

        values, shape = np.asarray(latents[band], dtype=np.float32), self._shapes[band]
        if values.shape[1] != np.prod(shape):
            raise AlignmentError(f"Band {band} has {values.shape[1]} dimensions; this model's has {np.prod(shape)}.")
        return torch.from_numpy(values.reshape(-1, *shape))

    def _noise(self, stimulus: str, sample: int) -> NDArray[np.float32]:
        rng = random_for(self.seed, "reconstruction noise", stimulus, sample)
        return rng.standard_normal(self._shapes["z"], dtype=np.float32)
