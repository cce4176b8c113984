"""Images from decoded latents by the latent diffusion model that the features came from.

z is the latent of the image autoencoder, c the embedding of the caption by the text encoder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self

import numpy as np
from annotated_types import Len
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, finite_number, passes, random_for, whole_number, words
from latentcortex._hub import weights_hash
from latentcortex._loading import threads
from latentcortex._ranges import Count, Distinct, OneOf, Percent, PositiveCount
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.extractors import Sized
from latentcortex.extractors.ldm import BATCH, STABLE
from latentcortex.extractors.ldm import LDM as Extractor
from latentcortex.features import Features
from latentcortex.splits import Splits
from latentcortex.stimuli import Stimuli

if TYPE_CHECKING:
    import torch

    from latentcortex import _ldm

logger = logging.getLogger(__name__)

SHARED: Final = ("model", "revision", "pixels", "dtype", "device")
"""Fields of an extractor on which it depends what its z and c mean, and how the model is run."""
ROUTES: Final = {"zc": ("z", "c"), "z": ("z",), "c": ("c",)}
"""The bands that each route needs."""
TITLES: Final = {"zc": "z_c", "z": "z alone", "c": "c alone"}
"""What each route is called."""


class LDMReconstructor:
    """Reconstruction by latent diffusion from z and c together, and from each alone as controls.

    Routes: `z` decodes z to a coarse image and stops there; `c` denoises pure noise with the decoded c through
    all steps; `zc` encodes the coarse image of `z` again, noises it to a strength and denoises it with the
    decoded c; it needs the bands z and c, not the band zc. Takagi and Nishimoto (2023) do not say how their images from
    z alone and c alone were made: those are ours.

    Parameters
    ----------
    model : str, or the extractor `ldm`
        `phantom`, or a folder in the layout of Stable Diffusion; the model that z and c are features of. Of an
        extractor the model is taken, and the pixels, steps, precision and device with which it is run.
    routes : sequence of str
        Which of the three; of Stable Diffusion XL and 3, whose denoiser needs pooled text besides c, only `z`.
    strength : int
        Noise strength of `zc`, in percent of `n_steps`.
    guidance : float
        Scale of classifier-free guidance; 1 is no guidance.
    n_steps : int
        Length of the whole timestep grid; 0 is that of the extractor, or 10 for the phantom and 50 otherwise.
    n_samples : int
        Images per stimulus, each from noise of its own; `z` has one, since it draws none.
    revision : str
        The commit of a model from the hub; that of the default model is fixed. Of an extractor its own is taken.
    seed : int
        Seed of the noise: sample k of a stimulus has the same in `c` and in `zc`.

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

    extractor: ClassVar[type] = Extractor
    """Whose model it runs: the settings of that extractor in a study are also those of the reconstructor."""

    def __init__(
        self,
        model: str | Extractor = STABLE,
        *,
        routes: Annotated[Sequence[Annotated[str, OneOf(ROUTES, "route of ldm")]], Len(1), Distinct()] = tuple(ROUTES),
        strength: Percent = 80,
        guidance: float = 5.0,
        n_steps: Count = 0,
        n_samples: PositiveCount = 5,
        seed: Count = 0,
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
        if not isinstance(model, (str, Extractor)):
            raise InputError(f"model must be a folder, a name, or an extractor of latent diffusion; got {model!r:.60}.")
        extractor_options: dict[str, Any] = {
            "strengths": [strength],
            "n_steps": n_steps,
            "bands": ["z", "c"],
            "seed": seed,
        }
        if isinstance(model, Extractor):
            extractor_options |= {key: getattr(model, key) for key in SHARED} | {"n_steps": n_steps or model.n_steps}
        else:
            extractor_options |= {"model": model, "revision": revision}
        self._source = Extractor(**extractor_options)
        self.n_steps = self._source.n_steps
        with_c = [route for route in self._routes if "c" in ROUTES[route]]
        if with_c and (self._source.folder / "text_encoder_2").is_dir():
            raise InputError(
                f"Route {with_c[0]} needs the pooled text that this model is given besides c; use routes = ['z']."
            )

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """The routes that were asked for, and the bands that each needs."""
        return {route: ROUTES[route] for route in self._routes}

    @property
    def titles(self) -> dict[str, str]:
        """What the routes are called in tables and figures."""
        return TITLES

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
            "pixels": self._source.pixels,
            **({"dtype": self._source.dtype} if self._source.dtype != "float32" else {}),
            **(threads.MADE_BY if self._source.device == "cpu" else {}),
        }

    def methods(self, routes: Sequence[str] = ()) -> str:
        """Write for a methods section how images were made by these routes, or by all that it has."""
        noise = f"{self._n_samples} draws of noise for each stimulus" if self._n_samples > 1 else "one draw of noise"
        steps = f"{self.n_steps} steps in the whole grid, guidance {self.guidance:g}, {noise}"
        words = {
            "zc": "For z_c [@takagi2023] the decoded z gave a coarse image, which was encoded again, noised to a "
            f"strength of {self.strength} % and denoised with the decoded c by DDIM with eta 0 [@song2021] ({steps}).",
            "z": "For z alone the autoencoder made an image of the decoded z.",
            "c": f"For c alone pure noise was denoised with the decoded c by DDIM with eta 0 [@song2021] ({steps}).",
        }
        work = "esser2024" if self._source.denoiser == "dit" else "rombach2022"
        model = f"Images were made by the latent diffusion model {self._source.model} [@{work}]."
        return " ".join([model, *(words[route] for route in routes or self._routes)])

    def check(self, source: Any) -> None:
        """Check the model, and whether what an extractor gives can be decoded by it, before anything is extracted.

        Parameters
        ----------
        source : Extractor
            The one whose bands are decoded.

        Raises
        ------
        InputError
            If a part of the model is not what it must be.
        AlignmentError
            If a band that a route needs has not the model's number of dimensions.
        """
        needed = dict.fromkeys(band for route in self._routes for band in ROUTES[route])
        self._source.check(list(needed), [])
        decoded = [band for band in needed if band in tuple(source.bands)]
        widths = source.dims(decoded) if isinstance(source, Sized) else {}
        for band, n_dims in widths.items():
            self._check_width(band, n_dims)
        if isinstance(source, Extractor) and self._differs(source):
            logger.warning(
                "Features come from %s and images are made by %s, whose autoencoder has other weights: what is decoded "
                "may mean something else to it.",
                source.model,
                self._source.model,
            )

    def _differs(self, source: Extractor) -> bool:
        """Tell whether an extractor's autoencoder has other weights than this model's."""
        return weights_hash(source.folder / "vae") != weights_hash(self._source.folder / "vae")

    def _check_width(self, band: str, n_dims: int) -> None:
        """Raise `AlignmentError` unless a band has as many dimensions as this model's."""
        width = int(np.prod(self._shapes[band]))
        if n_dims != width:
            raise AlignmentError(
                f"Band {band} has {n_dims} dimensions; this model's has {width}. Reconstruct with the "
                "extractor's model and pixels."
            )

    def fit(self, features: Features, stimuli: Stimuli, splits: Splits) -> Self:
        """Do nothing: the model is fixed."""
        return self

    def n_samples(self, route: str) -> int:
        """How many images of one stimulus a route makes."""
        return 1 if route == "z" else self._n_samples

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one z and one c."""
        text = self._source.text
        return {"z": self._source.latent, "c": (text["max_position_embeddings"], text["hidden_size"])}

    @cached_property
    def _passes(self) -> threads.Passes:
        from latentcortex import _ldm

        model = self._source.parts
        begins = _ldm.beginnings(model, [self.strength], n_steps=self.n_steps, start="consistent")
        if "zc" in self._routes:
            total, t = model.scheduler.config["num_train_timesteps"], begins[self.strength]
            logger.info("Route zc begins at timestep %g of %d of training (strength %d %%).", t, total, self.strength)
        return threads.Passes(model, model.modules, alone=self._source.device != "cpu")

    def reconstruct(
        self, route: str, latents: Mapping[str, FloatArray], ids: Sequence[str], n_samples: int
    ) -> NDArray[np.uint8]:
        """Make images in batches whose last one is padded, (n_stimuli, n_samples, height, width, 3).

        Raises
        ------
        AlignmentError
            If a band has not the model's number of dimensions.
        """
        import torch

        from latentcortex import _ldm

        bands = {band: self._shaped(band, latents) for band in ROUTES[route]}
        z, pixels = None, self._source.pixels
        if "z" in bands:
            coarse = self._run(lambda model, rows: _ldm.decode(model, bands["z"][rows]), len(ids))
            if route == "z":
                return coarse[:, None]
            encoded = self._run(lambda model, rows: _ldm.encode_images(model, coarse[rows]).cpu().numpy(), len(ids))
            z = torch.from_numpy(encoded)
        n_denoising_steps = self.n_steps if z is None else _ldm.n_steps_of(self.strength, self.n_steps)
        pairs = [(i, k) for i in range(len(ids)) for k in range(n_samples)]
        stimulus = np.array([i for i, _ in pairs])
        noise = torch.from_numpy(np.stack([self._noise(ids[i], k) for i, k in pairs]))

        def make(model: _ldm.LatentDiffusion, rows: list[int]) -> NDArray[Any]:
            x, c = noise[rows], _ldm.Conditioning(bands["c"][stimulus[rows]], pixels=pixels)
            if z is not None:
                x = _ldm.noised(model, z[stimulus[rows]], x, n_own=n_denoising_steps, n_steps=self.n_steps)
            x = _ldm.denoised(model, x, c, n_own=n_denoising_steps, n_steps=self.n_steps, guidance=self.guidance)
            return _ldm.decode(model, x)

        images = self._run(make, len(pairs))
        return images.reshape(len(ids), n_samples, *images.shape[1:])

    def _run(self, make: Callable[[_ldm.LatentDiffusion, list[int]], NDArray[Any]], n_rows: int) -> NDArray[Any]:
        """Make rows in batches whose last one is padded; concatenate those that are no padding."""
        parts = self._passes.map(lambda model, batch: make(model, batch[0])[: batch[1]], list(passes(n_rows, BATCH)))
        return np.concatenate(parts)

    def _shaped(self, band: str, latents: Mapping[str, FloatArray]) -> torch.Tensor:
        import torch

        values = np.asarray(latents[band], dtype=np.float32)
        self._check_width(band, values.shape[1])
        return torch.from_numpy(values.reshape(-1, *self._shapes[band]))

    def _noise(self, stimulus: str, sample: int) -> NDArray[np.float32]:
        rng = random_for(self.seed, "reconstruction noise", stimulus, sample)
        return rng.standard_normal(self._shapes["z"], dtype=np.float32)
