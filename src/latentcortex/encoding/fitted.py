"""A model of named bands, fitted to the responses to stimuli: what it predicts, its weights, and how it is kept."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from latentcortex import _files, estimators
from latentcortex._arrays import FloatArray, digest, fingerprint, tiles
from latentcortex.bands import Model
from latentcortex.errors import AlignmentError, IncompleteError, InputError
from latentcortex.estimators import Estimator, Nesting
from latentcortex.executors import share
from latentcortex.features import Features, aligned

FORMAT: Final = "latentcortex-model 2"
NUMBERS: Final = ("mixtures", "alphas", "cv_scores", "offset")
STIMULI_AT_ONCE: Final = 512
MATRICES: Final = 8
"""A mixture keeps about so many matrices of rows by rows (or columns): kernels, decompositions, those of folds."""
MIXTURES: Final = 10
"""A model of several bands tries about so many mixtures."""


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """A model made ready for the responses to some stimuli: all of a fit that does not depend on the voxel.

    Parameters
    ----------
    estimator : Estimator
        As it was given.
    features : Features
        The bands of the model; they hold the stimuli that are fitted on.
    ids : tuple of str
        Those stimuli.
    weights : ndarray of shape (n_fitted,)
        Trials behind each of them.
    by_columns : bool
        Whether it is fitted from columns, and predicts from them; otherwise from Gram matrices.
    rows : estimators.Prepared
        The estimator, ready for responses.
    """

    estimator: Estimator
    features: Features
    ids: tuple[str, ...]
    weights: FloatArray
    by_columns: bool
    rows: estimators.PreparedModel

    @classmethod
    def of(
        cls,
        estimator: Estimator,
        features: Features,
        ids: Sequence[str],
        *,
        sample: FloatArray,
        weights: FloatArray,
        in_time: bool = True,
    ) -> Self:
        """Prepare from columns where they are fewer than stimuli, else from Gram matrices.

        Parameters
        ----------
        estimator : Estimator
        features : Features
            All its bands are fitted jointly.
        ids : sequence of str
            The stimulus of each row of responses.
        sample : ndarray of shape (n_fitted, n_voxels)
            Responses of voxels all over the map, by which the estimator decides what must be the same for all voxels.
        weights : ndarray of shape (n_fitted,)
        in_time : bool
            Whether the order of stimuli may be that of time; if not, each is given to the estimator as a group of its
            own, so that it takes no neighbours for a series.

        Raises
        ------
        AlignmentError
            If a stimulus has no features.
        InputError
            If a band is constant over these stimuli.
        """
        aligned(features, ids)
        # Without an intercept an estimator would not centre columns, and kernels are centred.
        narrow = sum(features.dims.values()) < len(ids) and getattr(estimator, "fit_intercept", True)
        if narrow:
            rows: dict[str, FloatArray] = {band: features.array(band, ids) for band in features.bands}
            for band, values in rows.items():
                if not np.ptp(values, axis=0).any():
                    raise InputError(f"Band {band} is constant over the {len(ids)} stimuli that are fitted on.")
        else:
            options: dict[str, Any] = {"fit_on": ids, "weights": weights, "scale": bool(estimator.scale)}
            rows = {band: features.gram(band, ids, ids, **options) for band in features.bands}
        by: Literal["columns", "gram"] = "columns" if narrow else "gram"
        groups = None if in_time else list(ids)
        ready = estimators.prepare(estimator, rows, sample=sample, sample_weight=weights, groups=groups, by=by)
        return cls(estimator, features, tuple(ids), weights, bool(narrow), ready)

    @property
    def bands(self) -> Model:
        """The names of the bands."""
        return Model(self.features.bands)

    def fit(self, y: FloatArray) -> FittedModel:
        """Fit the responses (n_fitted, n_voxels) of some voxels; each is as it would be among all."""
        return FittedModel(self.rows.fit(y), self.features, self.ids, self.weights, self.by_columns)

    def new_rows(self, features: Features, ids: Sequence[str]) -> dict[str, FloatArray]:
        """Prepare stimuli to be predicted; see `FittedModel.new_rows`."""
        return _new_rows(self, features, ids)


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A fitted model, and the features and stimuli that it was fitted on.

    Parameters
    ----------
    estimator : Estimator
        FittedModel
    features : Features
        The bands of the model; they hold the stimuli that were fitted on.
    ids : tuple of str
        Those stimuli.
    weights : ndarray of shape (n_fitted,)
        Trials behind each of them.
    by_columns : bool
        Whether it was fitted from columns, and predicts from them; otherwise from Gram matrices.
    """

    estimator: Estimator
    features: Features
    ids: tuple[str, ...]
    weights: FloatArray
    by_columns: bool = False

    @property
    def bands(self) -> Model:
        """The names of the bands."""
        return Model(self.features.bands)

    def parts(self, features: Features, ids: Sequence[str], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict from each band, (n_bands, n_stimuli, n_voxels), without the estimator's `offset_`.

        Parameters
        ----------
        features : Features
            Those that were fitted, or others of the same bands: they need not hold the fitted stimuli.
        ids : sequence of str
        voxels : slice

        Raises
        ------
        AlignmentError
            If a band or a stimulus is not there, or a band has another number of dimensions.
        """
        return self.parts_of(self.new_rows(features, ids), voxels=voxels)

    def new_rows(self, features: Features, ids: Sequence[str]) -> dict[str, FloatArray]:
        """Prepare stimuli to be predicted, by band, once for many calls of `parts_of`; arguments as in `parts`.

        Returns
        -------
        dict of ndarray of shape (n_stimuli, n_dims) or (n_stimuli, n_fitted)
            Columns, or kernels with the fitted stimuli, centred and scaled on these. A nested model needs those of
            its own bands only.
        """
        return _new_rows(self, features, ids)

    def parts_of(self, rows: Mapping[str, FloatArray], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict from each band, as `parts` does, what `new_rows` prepared."""
        of_bands: dict[str, FloatArray] = {band: rows[band] for band in self.bands}
        if self.by_columns:
            return self.estimator.predict(of_bands, split=True, voxels=voxels)
        return self.estimator.predict_gram(of_bands, voxels=voxels)

    def predict(self, features: Features, ids: Sequence[str], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict from all bands together, float32 (n_stimuli, n_voxels); arguments are those of `parts`."""
        return self.joint_of(self.new_rows(features, ids), voxels=voxels)

    def joint_of(self, rows: Mapping[str, FloatArray], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict from all bands together, as `predict` does, what `new_rows` prepared."""
        parts = self.parts_of(rows, voxels=voxels)
        return np.asarray((parts.sum(0) + self.estimator.offset_[voxels]).astype(np.float32))

    def coefficients(self, band: str, voxels: slice = slice(None)) -> FloatArray:
        """Compute weights in the units of the features, (n_dims, n_voxels), float64.

        Where the features were reduced, the weights are those of the original dimensions: the reduction is undone.
        A voxel that is not valid is nan.

        Raises
        ------
        InputError
            If the model has no such band.
        """
        gamma = self.estimator.mixtures_[self._number(band)][voxels]
        mean = self._mean(band, self.features)
        dual = self.estimator.dual(voxels) * (gamma / self._size(band, mean))
        return self.features.expanded(band, self._onto(band, mean, dual))

    def intercept(self, voxels: slice = slice(None)) -> FloatArray:
        """Compute what is predicted where all features are 0, (n_voxels,), float64.

        Features times their `coefficients`, summed over bands, plus this are the prediction; where features were
        reduced, those before. A voxel that is not valid is nan.
        """
        out = np.array(self.estimator.offset_[voxels], dtype=np.float64)
        for band in self.bands:
            mean = self._mean(band, self.features.unreduced(band))
            out -= np.einsum("i,ij->j", mean, self.coefficients(band, voxels))  # the same bits for any voxels
        return out

    def patterns(self, band: str, voxels: slice = slice(None)) -> FloatArray:
        """Compute what of each feature covaries with what the model predicts, (n_dims, n_voxels), float64.

        Weights of correlated features cannot be read one by one. The pattern of a voxel can: the covariance of each
        feature with its prediction from this band over the fitted stimuli, divided by the variance of that
        prediction. nan where a voxel is not valid or nothing is predicted.

        Raises
        ------
        InputError
            If the model has no such band.

        References
        ----------
        Haufe et al. (2014), doi:10.1016/j.neuroimage.2013.10.067
        """
        number, mean = self._number(band), self._mean(band, self.features)
        yhat = self.parts(self.features, self.ids, voxels=voxels)[number].astype(np.float64)
        w = self.weights / self.weights.sum()
        yhat -= w @ yhat
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = w[:, None] * yhat / (w @ (yhat * yhat))
        return self.features.expanded(band, self._onto(band, mean, scaled))

    def nested(self, subsets: Sequence[Sequence[str]] | None = None) -> dict[tuple[str, ...], FittedModel]:
        """Refit the models of subsets of the bands, each with penalties of its own; all of them by default.

        Raises
        ------
        InputError
            If the estimator cannot refit subsets of its bands.
        """
        if isinstance(self.estimator, SavedEstimator):
            raise InputError("A model that was read from a file refits no models without a band; fit it again.")
        if not isinstance(self.estimator, Nesting):
            name = self.estimator.parameters.get("name", "This estimator")
            raise InputError(f"{name} does not refit subsets of bands; use banded_ridge for unique or Shapley shares.")
        models = self.estimator.nested(subsets)
        return {
            b: FittedModel(m, self.features.select_bands(b), self.ids, self.weights, self.by_columns)
            for b, m in models.items()
        }

    # Kept on disk

    def save(self, path: Path, *, about: dict[str, Any] | None = None) -> None:
        """Write the model as one safetensors file: dual weights in float64, and what it was fitted on.

        The features themselves are not copied; `load` asks for them.

        Raises
        ------
        InputError
            If there is a file already.
        """
        if path.exists():
            raise InputError(f"{path} is there already; remove it or choose another name.")
        tensors: dict[str, FloatArray] = {
            name: np.asarray(getattr(self.estimator, f"{name}_"), dtype=np.float64) for name in NUMBERS
        }
        tensors |= {"dual": self.estimator.dual(), "weights": np.asarray(self.weights, dtype=np.float64)}
        content = {
            "bands": list(self.bands),
            "ids": list(self.ids),
            "features": self._fingerprints(),
            "scale": self.estimator.scale,
            "estimator": self.estimator.parameters,
            "about": about or {},
        }
        text = json.dumps(_files.plain(content))
        metadata = {"format": FORMAT, "content": text, "hash": _hash(text, tensors)}
        with _files.writing(path) as part:
            _write(part, tensors, metadata)

    @classmethod
    def load(cls, path: Path, features: Features) -> tuple[Self, dict[str, Any]]:
        """Read a model and join it with the features that it was fitted on; return also what was said about it.

        Raises
        ------
        IncompleteError
            If the file is damaged.
        InputError
            If the file is missing or not such a model.
        AlignmentError
            If the features are not those that were fitted.
        """
        tensors, content = _read(path)
        missing = [band for band in content["bands"] if band not in features.bands]
        if missing:
            raise AlignmentError(f"{path} was fitted on bands that are not there: {', '.join(missing)}.")
        selected, weights = features.select_bands(content["bands"]), tensors.pop("weights")
        aligned(selected, content["ids"])
        kept = SavedEstimator(
            selected.bands, content["scale"], content["estimator"], **{f"{k}_": v for k, v in tensors.items()}
        )
        model = cls(kept, selected, tuple(content["ids"]), weights)
        changed = [band for band, fitted in content["features"].items() if model._fingerprints()[band] != fitted]
        if changed:
            raise AlignmentError(f"{path} was fitted on other features: {', '.join(changed)} differ.")
        return model, content["about"]

    # Inside

    def _number(self, band: str) -> int:
        if band not in self.bands:
            raise InputError(f"The model has no band {band!r}; it has {', '.join(self.bands)}.")
        return self.bands.index(band)

    def _mean(self, band: str, features: Features) -> FloatArray:
        """Average features of the fitted stimuli, (n_dims,), in float64."""
        total = [self.weights[rows] @ features.array(band, self.ids[rows]) for rows in self._pieces()]
        return np.asarray(np.sum(total, axis=0) / self.weights.sum())

    def _size(self, band: str, mean: FloatArray) -> float:
        """Average the squared distance of the fitted stimuli from their mean: what kernels are divided by."""
        if not self.estimator.scale:
            return 1.0
        return sum(float(((self._values(band, rows) - mean) ** 2).sum()) for rows in self._pieces()) / len(self.ids)

    def _onto(self, band: str, mean: FloatArray, rows: FloatArray) -> FloatArray:
        """Multiply the centred features with one number per stimulus and voxel; (n_dims, n_voxels)."""
        out = np.zeros((self.features.dims[band], rows.shape[1]))
        for stimuli in self._pieces():
            centred = self._values(band, stimuli) - mean

            def add(tile: slice, centred: FloatArray = centred, here: FloatArray = rows[stimuli]) -> None:
                out[:, tile] += centred.T @ here[:, tile]

            share(add, tiles(rows.shape[1]))
        return out

    def _pieces(self) -> Iterator[slice]:
        return (slice(i, i + STIMULI_AT_ONCE) for i in range(0, len(self.ids), STIMULI_AT_ONCE))

    def _values(self, band: str, rows: slice) -> FloatArray:
        return self.features.array(band, self.ids[rows]).astype(np.float64)

    def _fingerprints(self) -> dict[str, str]:
        parts = {
            band: [fingerprint(self.features.array(band, self.ids[rows])) for rows in self._pieces()]
            for band in self.bands
        }
        return {band: digest(*hashes) for band, hashes in parts.items()}


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """What a fit chose for each voxel.

    Parameters
    ----------
    alphas : ndarray of shape (n_voxels,)
        Penalties.
    mixtures : ndarray of shape (n_bands, n_voxels)
        Each voxel's sums to 1.
    """

    alphas: FloatArray
    mixtures: FloatArray

    @classmethod
    def of(cls, estimator: Estimator) -> Self:
        """Ask a fitted estimator."""
        return cls(estimator.alphas_, estimator.mixtures_)


def ready_bytes(n_rows: int, features: Features) -> int:
    """Bound the memory of a model of these features that is ready for so many stimuli, decompositions included."""
    n_columns = sum(features.dims.values())
    return 8 * MATRICES * (1 if len(features.bands) == 1 else MIXTURES) * n_rows * min(n_rows, n_columns)


def _new_rows(model: PreparedModel | FittedModel, features: Features, ids: Sequence[str]) -> dict[str, FloatArray]:
    """Prepare stimuli to be predicted, by band; see `FittedModel.new_rows`."""
    wanted = features.select_bands(model.bands)
    aligned(wanted, ids)
    for band, n_dims in model.features.dims.items():
        if wanted.dims[band] != n_dims:
            raise AlignmentError(f"Band {band} has {wanted.dims[band]} dimensions; fitted with {n_dims}.")
    if model.by_columns:
        return {band: wanted.array(band, ids) for band in model.bands}
    options: dict[str, Any] = {"fit_on": model.ids, "weights": model.weights, "scale": bool(model.estimator.scale)}
    if wanted.same_source(model.features) and set(model.ids) <= set(wanted.ids):
        return {band: wanted.gram(band, ids, model.ids, **options) for band in model.bands}
    return {band: model.features.across(band, wanted, ids, **options) for band in model.bands}


@dataclass(frozen=True, eq=False)
class SavedEstimator:
    """An estimator as it was read from a file: it predicts, and cannot be fitted.

    Parameters
    ----------
    bands : tuple of str
    scale : {"trace", None}
        Whether kernels are divided by their mean diagonal.
    parameters : dict
        What made it.
    dual_ : ndarray of shape (n_rows, n_voxels)
    mixtures_ : ndarray of shape (n_bands, n_voxels)
    alphas_, cv_scores_, offset_ : ndarray of shape (n_voxels,)
    """

    bands: tuple[str, ...]
    scale: str | None
    parameters: dict[str, Any]
    dual_: FloatArray
    mixtures_: FloatArray
    alphas_: FloatArray
    cv_scores_: FloatArray
    offset_: FloatArray

    def dual(self, voxels: slice = slice(None)) -> FloatArray:
        """Return the dual weights, (n_rows, n_voxels)."""
        return self.dual_[:, voxels]

    def fit(self, *_: Any, **__: Any) -> Self:
        """Refuse: what was read is not fitted again."""
        raise InputError("This model was read from a file; make an Encoder with an estimator to fit another.")

    fit_gram = fit

    def predict(self, bands: Any, *, split: bool = False, voxels: slice = slice(None)) -> FloatArray:
        """Refuse: only kernels are known."""
        raise InputError("A model that was read from a file predicts from Gram matrices.")

    def predict_gram(self, grams: Any, *, voxels: slice = slice(None)) -> FloatArray:
        """Predict from each band, (n_bands, n_new, n_voxels) in float32, without `offset_`."""
        first, dual, gamma = next(iter(grams.values())), self.dual_[:, voxels], self.mixtures_[:, voxels]
        out = np.empty((len(self.bands), len(first), dual.shape[1]), dtype=np.float32)

        def fill(tile: slice) -> None:
            for b, band in enumerate(self.bands):
                out[b, :, tile] = (grams[band] @ dual[:, tile]) * gamma[b, tile]

        share(fill, tiles(out.shape[2]))
        return out


def _hash(text: str, tensors: dict[str, FloatArray]) -> str:
    return digest(text, *(fingerprint(tensors[name]) for name in sorted(tensors)))


def _write(path: Path, tensors: dict[str, FloatArray], metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # what the operating system answered is only in its words
        answer = re.search(r"os error (\d+)", str(error))
        if answer is None:
            raise OSError(str(error)) from None
        raise OSError(int(answer[1]), os.strerror(int(answer[1]))) from None


def _read(path: Path) -> tuple[dict[str, FloatArray], dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path} is not there; expected a model that Encoder.save wrote.")
    path.open("rb").close()  # which safetensors is not allowed to read, it calls missing
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise InputError(f"{path} holds {header.get('format') or 'something else'}; expected {FORMAT}.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise IncompleteError(f"{path} is damaged ({error}); fit and save the model again.") from None
    if header.get("hash") != _hash(header.get("content", ""), tensors):
        raise IncompleteError(f"{path} is damaged: it is not what was written; fit and save the model again.")
    return tensors, json.loads(header["content"])
