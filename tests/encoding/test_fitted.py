"""A fitted model: new images, weights, patterns, and what is kept on disk."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.decomposition import PCA

from latentcortex import Encoder, Features, Responses, estimators
from latentcortex.errors import AlignmentError, IncompleteError, InputError
from latentcortex.space import Unlocated

IDS = [f"s{i:03d}" for i in range(90)]
NEW = [f"new{i}" for i in range(20)]
FIT = IDS[:70]


def study(n_dims: int, *, n_voxels: int = 8, offset: float = 0.0):
    """Two bands; 20 dimensions are fewer than the fitted stimuli, 60 are more."""
    rng = np.random.default_rng(0)
    bands = {"z": rng.standard_normal((110, n_dims)) + offset, "c": rng.standard_normal((110, n_dims))}
    mean = sum(x @ rng.standard_normal((n_dims, n_voxels)) / n_dims**0.5 for x in bands.values())
    y = (mean + 0.3 * rng.standard_normal((110, n_voxels)) + 5).astype(np.float32)
    seen = Features.from_arrays(IDS, {b: x[:90] for b, x in bands.items()})
    new = Features.from_arrays(NEW, {b: x[90:] for b, x in bands.items()})
    shown = {"stimulus": FIT, "session": ["1"] * 70, "run": ["1"] * 70}
    return seen, new, Responses.single_trials(y[:70], Unlocated(n_voxels), **shown), y


def torch_like() -> np.ndarray:
    return np.zeros((2, 2), dtype=np.float16)


def fitted(n_dims: int, **arguments):
    seen, new, train, y = study(n_dims)
    return Encoder(estimators.make(arguments.pop("name", "banded_ridge"), **arguments)).fit(seen, train), seen, new, y


@pytest.mark.parametrize("n_dims", [20, 60])
def test_new_images_are_predicted_as_if_they_had_been_in_the_store(n_dims: int) -> None:
    encoder, seen, new, y = fitted(n_dims)
    both = {b: np.concatenate([seen.array(b), new.array(b)]) for b in seen.bands}
    together = Features.from_arrays(IDS + NEW, both)
    found = encoder.predict(new)
    assert found.shape == (20, 8)
    np.testing.assert_allclose(found, encoder.predict(together, NEW), rtol=1e-4, atol=1e-5)
    assert np.corrcoef(found.ravel(), y[90:].ravel())[0, 1] > 0.5


def test_columns_and_gram_matrices_give_the_same_model() -> None:
    narrow, _, train, _ = study(20)
    padded = {b: np.hstack([narrow.array(b), np.zeros((90, 60))]) for b in narrow.bands}
    wide = Features.from_arrays(IDS, padded)
    models = [Encoder(estimators.make("banded_ridge")).fit(some, train) for some in (narrow, wide)]
    assert [encoder.model.by_columns for encoder in models] == [True, False]
    np.testing.assert_allclose(*(e.predict(f, IDS) for e, f in zip(models, (narrow, wide), strict=True)), rtol=1e-5)
    np.testing.assert_allclose(*(e.model.estimator.alphas_ for e in models), rtol=1e-6)


def test_other_features_never_stand_in_for_those_that_were_fitted() -> None:
    """Even where they have the ids of the fitted stimuli."""
    encoder, seen, new, _ = fitted(60)
    other = Features.from_arrays(IDS, {b: np.where(np.arange(90)[:, None] < 70, 7, seen.array(b)) for b in seen.bands})
    np.testing.assert_allclose(encoder.predict(other, IDS[70:]), encoder.predict(seen, IDS[70:]), rtol=1e-4, atol=1e-5)
    with pytest.raises(AlignmentError, match="Band z has 5 dimensions; fitted with 60"):
        encoder.predict(Features.from_arrays(NEW, {b: new.array(b)[:, :5] for b in new.bands}))
    with pytest.raises(InputError, match="not fitted yet"):
        Encoder(estimators.make("banded_ridge")).predict(new)


@pytest.mark.parametrize("n_dims", [20, 60])
def test_some_stimuli_of_the_same_store_need_not_hold_the_fitted_ones(n_dims: int, tmp_path: Path) -> None:
    seen, _, train, _ = study(n_dims)
    stored = seen.save(tmp_path / "store")
    encoder = Encoder(estimators.make("banded_ridge")).fit(stored, train)
    found = encoder.predict(stored.select_stimuli(IDS[70:]))
    np.testing.assert_allclose(found, encoder.predict(stored, IDS[70:]), rtol=1e-4, atol=1e-5)


def test_without_an_intercept_columns_are_centred_as_kernels_are(tmp_path: Path) -> None:
    seen, new, train, _ = study(20, offset=3.0)
    encoder = Encoder(estimators.make("takagi2023-released")).fit(seen, train)
    encoder.save(tmp_path / "one.safetensors")
    again = Encoder.load(tmp_path / "one.safetensors", seen)
    np.testing.assert_allclose(again.predict(new), encoder.predict(new), rtol=1e-3, atol=1e-3)
    mean = {b: seen.array(b, FIT).astype(np.float64).mean(0) for b in seen.bands}
    parts = sum((new.array(b) - mean[b]) @ encoder.weights(b) for b in seen.bands)
    np.testing.assert_allclose(parts, encoder.predict(new), rtol=1e-3, atol=1e-3)


# Weights


@pytest.mark.parametrize("name", ["banded_ridge", "himalaya"])
@pytest.mark.parametrize("n_dims", [20, 60])
def test_weights_are_in_the_units_of_the_features(n_dims: int, name: str) -> None:
    encoder, seen, new, _ = fitted(n_dims, name=name)
    mean = {b: seen.array(b, FIT).astype(np.float64).mean(0) for b in seen.bands}
    parts = sum((new.array(b) - mean[b]) @ encoder.weights(b) for b in seen.bands)
    np.testing.assert_allclose(parts + encoder.model.estimator.offset_, encoder.predict(new), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(encoder.weights("z", slice(2, 5)), encoder.weights("z")[:, 2:5])
    with pytest.raises(InputError, match="no band 'x'; it has z, c"):
        encoder.weights("x")


@pytest.mark.parametrize("name", ["banded_ridge", "himalaya", "ridge", "takagi2023-released"])
@pytest.mark.parametrize("n_dims", [20, 60])
@pytest.mark.parametrize("reduced", [False, True])
def test_features_times_weights_plus_the_intercept_are_the_prediction(n_dims: int, name: str, reduced: bool) -> None:
    seen, _, train, _ = study(n_dims, offset=10.0)
    given = seen.reduce(15, fit_on=FIT[:50]) if reduced else seen
    encoder = Encoder(estimators.make(name)).fit(given, train)
    found = sum(seen.array(b, IDS[70:]).astype(np.float64) @ encoder.weights(b) for b in seen.bands)
    expected = encoder.predict(given, IDS[70:])
    np.testing.assert_allclose(found + encoder.intercept(), expected, atol=2e-3 if reduced else 2e-4)
    np.testing.assert_array_equal(encoder.intercept(slice(2, 5)), encoder.intercept()[2:5])


def test_principal_components_are_those_of_sklearn_and_fitted_on_training_stimuli_only() -> None:
    seen, *_ = study(60, offset=100.0)
    reduced = seen.reduce(5, fit_on=FIT)
    assert reduced.dims == {"z": 5, "c": 5}
    for band in seen.bands:
        theirs = PCA(5).fit(seen.array(band, FIT).astype(np.float64))
        expected = theirs.transform(seen.array(band).astype(np.float64))
        found = reduced.array(band)
        signs = np.sign((found * expected).sum(0))
        np.testing.assert_allclose(found * signs, expected, rtol=1e-3, atol=1e-4)
        axes = reduced.expanded(band, np.eye(5))
        np.testing.assert_allclose(axes * signs, theirs.components_.T, atol=1e-5)
    assert seen.reduce(60, fit_on=FIT).dims == seen.dims
    with pytest.raises(InputError, match="Band z has 29 components over 30 stimuli; 40 were asked for"):
        seen.reduce(40, fit_on=FIT[:30])


def test_weights_of_reduced_features_are_those_of_the_original_dimensions() -> None:
    seen, _, train, _ = study(60)
    reduced = seen.reduce(40, fit_on=FIT)
    encoder = Encoder(estimators.make("banded_ridge")).fit(reduced, train)
    assert encoder.weights("z").shape == (60, 8)
    mean = {b: seen.array(b, FIT).astype(np.float64).mean(0) for b in seen.bands}
    test = IDS[70:]
    parts = sum((seen.array(b, test) - mean[b]) @ encoder.weights(b) for b in seen.bands)
    found = encoder.predict(reduced, test)
    np.testing.assert_allclose(parts + encoder.model.estimator.offset_, found, rtol=1e-4, atol=1e-4)


def test_weights_come_back_through_two_reductions() -> None:
    seen, _, train, _ = study(60)
    twice = seen.reduce(50, fit_on=FIT).reduce(30, fit_on=FIT)
    encoder = Encoder(estimators.make("banded_ridge")).fit(twice, train)
    mean = seen.array("z", FIT).astype(np.float64).mean(0)
    found = (seen.array("z", IDS[70:]) - mean) @ encoder.weights("z")
    np.testing.assert_allclose(found, encoder.model.parts(twice, IDS[70:])[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n_dims", [20, 60])
def test_patterns_are_covariances_with_the_prediction(n_dims: int) -> None:
    encoder, seen, _, _ = fitted(n_dims)
    x = seen.array("z", FIT).astype(np.float64)
    yhat = (x - x.mean(0)) @ encoder.weights("z")
    expected = (x - x.mean(0)).T @ yhat / (yhat**2).sum(0)
    np.testing.assert_allclose(encoder.patterns("z"), expected, rtol=1e-4, atol=1e-5)


def test_a_pattern_shows_a_feature_that_only_goes_along_where_the_weight_does_not() -> None:
    rng = np.random.default_rng(1)
    cause = rng.standard_normal(90)
    along = cause + 0.5 * rng.standard_normal(90)
    features = Features.from_arrays(IDS, {"z": np.stack([cause, along], axis=1)})
    y = (cause + 0.05 * rng.standard_normal(90))[:70, None].astype(np.float32)
    train = Responses.single_trials(y, Unlocated(1), stimulus=FIT, session=["1"] * 70, run=["1"] * 70)
    encoder = Encoder(estimators.make("banded_ridge", alphas=[1e-3], selection="gcv")).fit(features, train)
    weights, patterns = encoder.weights("z")[:, 0], encoder.patterns("z")[:, 0]
    assert abs(weights[1]) < 0.1 * weights[0]
    assert patterns[1] > 0.8 * patterns[0]


def test_weights_of_a_latent_lie_as_the_latent_does() -> None:
    encoder, *_ = fitted(60)
    maps = encoder.spatial("z", shape=(4, 3, 5))
    assert maps.shape == (8, 4, 3, 5)
    np.testing.assert_array_equal(maps[2].ravel(), encoder.weights("z")[:, 2])
    with pytest.raises(InputError, match="do not say how z lies in the image"):
        encoder.spatial("z")
    with pytest.raises(InputError, match="Band z has 60 dimensions; 4 x 4 x 4 are 64"):
        encoder.spatial("z", shape=(4, 4, 4))


def test_an_invalid_voxel_is_nan_everywhere_and_no_other_is_touched() -> None:
    seen, new, train, _ = study(60)
    broken = train.data.copy()
    broken[3, 2], broken[:, 5] = np.nan, 7.0
    fits = [
        Encoder(estimators.make("banded_ridge")).fit(seen, Responses(data, train.rows, train.space))
        for data in (train.data, broken)
    ]
    whole, partial = (encoder.predict(new) for encoder in fits)
    assert np.isnan(partial[:, [2, 5]]).all()
    others = [0, 1, 3, 4, 6, 7]
    np.testing.assert_array_equal(whole[:, others], partial[:, others])
    assert np.isnan(fits[1].weights("z")[:, 2]).all()
    assert np.isnan(fits[1].patterns("c")[:, 5]).all()


# On disk


@pytest.mark.parametrize("name", ["banded_ridge", "himalaya"])
@pytest.mark.parametrize("n_dims", [20, 60])
def test_a_model_that_was_kept_predicts_as_before(n_dims: int, name: str, tmp_path: Path) -> None:
    encoder, seen, new, _ = fitted(n_dims, name=name)
    encoder.save(tmp_path / "models" / "one.safetensors")
    again = Encoder.load(tmp_path / "models" / "one.safetensors", seen)
    np.testing.assert_allclose(again.predict(new), encoder.predict(new), rtol=2e-4, atol=1e-5)
    np.testing.assert_array_equal(again.model.estimator.alphas_, encoder.model.estimator.alphas_)
    np.testing.assert_allclose(again.weights("c"), encoder.weights("c"), rtol=1e-10)
    assert again.model.estimator.parameters["name"] == name
    with pytest.raises(InputError, match="is there already"):
        encoder.save(tmp_path / "models" / "one.safetensors")
    with pytest.raises(InputError, match="was read from a file"):
        again.fit(seen, study(n_dims)[2])


def test_a_model_for_which_there_is_no_room_names_its_file_and_leaves_nothing(tmp_path: Path) -> None:
    encoder, *_ = fitted(20)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/model\.safetensors'"):
            encoder.save(tmp_path / "model.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded_is_one_clear_line(tmp_path: Path) -> None:
    encoder, seen, _, _ = fitted(60)
    path = tmp_path / "one.safetensors"
    encoder.save(path)
    other = Features.from_arrays(IDS, {b: seen.array(b) * 2 for b in seen.bands})
    with pytest.raises(AlignmentError, match="was fitted on other features: z, c differ"):
        Encoder.load(path, other)
    with pytest.raises(AlignmentError, match="bands that are not there: c"):
        Encoder.load(path, seen.select_bands(["z"]))
    with pytest.raises(InputError, match="is not there; expected a model"):
        Encoder.load(tmp_path / "none.safetensors", seen)
    whole = bytearray(path.read_bytes())
    whole[-100] ^= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(IncompleteError, match="it is not what was written"):
        Encoder.load(path, seen)
    save_file({"half": torch_like()}, tmp_path / "torch.safetensors")
    with pytest.raises(InputError, match="holds something else; expected latentcortex-model 2"):
        Encoder.load(str(tmp_path / "torch.safetensors"), seen)
    path.write_bytes(bytes(whole[:300]))
    with pytest.raises(IncompleteError, match="damaged"):
        Encoder.load(path, seen)
