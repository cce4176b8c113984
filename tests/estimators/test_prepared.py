"""Estimators whose rows are ready: voxels come piece by piece, and nothing shows it."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from latentcortex import estimators
from latentcortex._arrays import TILE, tiles
from latentcortex._ridge import lapack
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators import VoxelCounts
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.estimators.himalaya import Himalaya

N_VOXELS = 2 * TILE + 77
ALPHAS = np.logspace(-1, 5, 4)


def planted(n: int, dims: int, dtype: type = np.float32) -> tuple[dict, np.ndarray]:
    """Two bands, the first of which predicts more and more; in the middle tile no voxel is valid."""
    rng = np.random.default_rng(n + dims)
    bands = {"z": rng.standard_normal((n, dims)), "c": rng.standard_normal((n, dims))}
    y = np.linspace(0, 2, N_VOXELS) * (bands["z"][:, :3] @ rng.standard_normal((3, N_VOXELS)))
    y += rng.standard_normal(y.shape)
    y[0, 5] = np.nan
    y[:, TILE : 2 * TILE] = 1.5
    return bands, y.astype(dtype)


def centred_grams(bands: dict) -> dict:
    centred = {band: x - x.mean(0) for band, x in bands.items()}
    return {band: x @ x.T / (x * x).sum(1).mean() for band, x in centred.items()}


def numbers(model: object, new: dict, by: str) -> dict[str, np.ndarray]:
    """All that a fitted model says, its nested models included; voxels last."""
    predicted = model.predict(new, split=True) if by == "columns" else model.predict_gram(new)
    out = {"predicted": predicted, "dual": model.dual(), "mixtures": model.mixtures_}
    out |= {name: getattr(model, name) for name in ("alphas_", "cv_scores_", "offset_")}
    for subset, inner in model.nested([["z"], ["c"]]).items():
        own = {band: new[band] for band in subset}
        out[f"nested {subset}"] = inner.predict(own, split=True) if by == "columns" else inner.predict_gram(own)
    return out


CASES = [
    # n above 512 works in float32, and columns fewer than rows are fitted from columns.
    ("gcv", "gram", 560, 40, np.float32),
    ("gcv", "columns", 560, 40, np.float32),
    ("loo", "columns", 100, 80, np.float64),
    ("kfold", "gram", 90, 40, np.float32),
    pytest.param("kfold", "gram", 1100, 40, np.float32, marks=pytest.mark.slow),
    ("kfold", "columns", 90, 20, np.float64),
]


@pytest.mark.parametrize(("selection", "by", "n", "dims", "dtype"), CASES)
def test_a_tile_that_is_fitted_alone_has_the_bits_that_it_has_among_all(
    selection: str, by: str, n: int, dims: int, dtype: type
) -> None:
    bands, y = planted(n, dims, dtype)
    weights = np.random.default_rng(0).integers(1, 4, n).astype(float)
    rows = bands if by == "columns" else centred_grams(bands)
    new = {band: values[:7] for band, values in rows.items()}
    options = {"selection": selection, "cv": 2, "alphas": ALPHAS}
    whole = BandedRidge(**options)
    whole = (whole.fit if by == "columns" else whole.fit_gram)(rows, y, sample_weight=weights)
    expected = numbers(whole, new, by)
    prepared = estimators.prepare(BandedRidge(**options), rows, sample=y[:, ::40], sample_weight=weights, by=by)
    assert prepared.voxels_at_once == TILE
    for tile in reversed(tiles(N_VOXELS)):
        for name, values in numbers(prepared.fit(y[:, tile]), new, by).items():
            np.testing.assert_array_equal(values, expected[name][..., tile], err_msg=f"{name} of {tile}")
            assert values.dtype == expected[name].dtype, name


def test_a_tile_without_a_valid_voxel_is_nan_everywhere_and_an_error_only_to_fit() -> None:
    bands, y = planted(60, 5)
    prepared = estimators.prepare(BandedRidge(), bands, sample=y[:, ::40])
    model = prepared.fit(y[:, TILE : 2 * TILE])
    assert all(np.isnan(values).all() for values in numbers(model, bands, "columns").values())
    assert VoxelCounts.count(model) == VoxelCounts(TILE, TILE)
    with pytest.raises(InputError, match="0 of 1024 voxels are usable"):
        BandedRidge().fit(bands, y[:, TILE : 2 * TILE])


def test_how_penalties_are_compared_is_decided_from_the_sample_alone() -> None:
    rng = np.random.default_rng(0)
    slow = {
        "x": np.cumsum(rng.standard_normal((320, 50)), axis=0)
    }  # a series, of which responses may or may not be one
    still, moving = rng.standard_normal((320, 64)), np.cumsum(rng.standard_normal((320, 64)), axis=0)
    by_stretches = estimators.prepare(BandedRidge(), slow, sample=moving)
    by_rows = estimators.prepare(BandedRidge(), slow, sample=still)
    chosen = [prepared.fit(still).alphas_ for prepared in (by_stretches, by_rows)]
    np.testing.assert_array_equal(chosen[1], BandedRidge(selection="gcv").fit(slow, still).alphas_)
    assert (chosen[0] != chosen[1]).any()


@pytest.mark.parametrize("selection", ["gcv", "kfold"])
def test_each_mixture_is_decomposed_once_however_many_threads_fit_and_nest(
    selection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bands, y = planted(60, 90)
    decomposed: list[int] = []
    true_eigh = lapack.eigh

    def counted(matrix: np.ndarray) -> tuple:
        decomposed.append(len(matrix))
        return true_eigh(matrix)

    monkeypatch.setattr(lapack, "eigh", counted)
    options = {"selection": selection, "cv": 2, "alphas": ALPHAS}
    prepared = estimators.prepare(BandedRidge(**options), bands, sample=y[:, ::40])
    assert not decomposed  # it is done when the first voxels come
    pieces = [piece for piece in (slice(0, 30), slice(30, 60), slice(-30, None)) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(lambda tile: numbers(prepared.fit(y[:, tile]), bands, "columns"), pieces))
    sizes = {"gcv": [59], "kfold": [59, 29]}[selection]  # all rows, and those outside each of two folds
    assert set(decomposed) == set(sizes)
    assert decomposed.count(59) <= 7
    assert decomposed.count(29) == (14 if selection == "kfold" else 0)
    for k in range(0, len(pieces), 3):
        for name, values in said[k].items():
            np.testing.assert_array_equal(values, said[k + 2][name], err_msg=name)


def test_what_is_odd_is_told_once_from_counts_that_add_up(caplog: pytest.LogCaptureFixture) -> None:
    bands, y = planted(120, 5)
    options = {"alphas": (1e4, 1e5), "selection": "gcv"}
    with caplog.at_level(logging.DEBUG, logger="latentcortex.estimators._counts"):
        whole = BandedRidge(**options).fit(bands, y)
    expected = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert any("The smallest alpha" in text for _, text in expected)
    caplog.clear()
    estimator = BandedRidge(**options)
    prepared = estimators.prepare(estimator, bands, sample=y[:, ::40])
    with caplog.at_level(logging.DEBUG, logger="latentcortex.estimators._counts"):
        models = [prepared.fit(y[:, tile]) for tile in tiles(N_VOXELS)]
        assert not caplog.records
        counts = sum(map(VoxelCounts.count, models), VoxelCounts())
        counts.log_findings(estimator, tuple(bands))
    assert counts == VoxelCounts.count(whole)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == expected


class Stranger:
    """An estimator of somebody who has only read what `Estimator` asks for: least squares on one band of columns."""

    scale, parameters = None, {"name": "stranger"}

    def fit(self, bands: dict, y: np.ndarray, *, groups: object = None, sample_weight: object = None) -> "Stranger":
        assert np.isfinite(y).all()
        (self.bands,) = (tuple(bands),)
        x = bands["x"]
        self.offset_, self.alphas_, self.cv_scores_ = y.mean(0), np.zeros(y.shape[1]), np.zeros(y.shape[1])
        self.coef = np.linalg.lstsq(x - x.mean(0), y - y.mean(0))[0]
        return self


def test_an_estimator_that_does_not_prepare_is_fitted_to_each_piece_by_a_copy() -> None:
    rng = np.random.default_rng(0)
    x, y = {"x": rng.standard_normal((30, 3))}, rng.standard_normal((30, 8))
    stranger = Stranger()
    prepared = estimators.prepare(stranger, x, sample=y)
    models = [prepared.fit(y[:, piece]) for piece in (slice(0, 5), slice(5, 8))]
    np.testing.assert_allclose(np.hstack([model.coef for model in models]), Stranger().fit(x, y).coef, atol=1e-12)
    assert not hasattr(stranger, "coef")
    nothing = prepared.fit(np.ones((30, 4)))
    assert np.isnan(nothing.predict_gram({"x": x["x"][:2]})).all()
    assert nothing.predict_gram({"x": x["x"][:2]}, voxels=slice(1, 3)).shape == (1, 2, 2)
    assert VoxelCounts.count(nothing) == VoxelCounts(4, 4)


def test_many_voxels_are_fitted_one_tile_after_the_other_where_an_estimator_does_not_prepare() -> None:
    rng = np.random.default_rng(0)
    x, y = {"x": rng.standard_normal((30, 3))}, rng.standard_normal((30, 2 * TILE + 9))
    y[:, TILE : 2 * TILE] = 1.0  # which a stranger need not expect
    own = {"alphas": ALPHAS, "n_iter": 2}
    prepared = estimators.prepare(OneTileOfHimalaya(**own), x, sample=y)
    whole, parts = prepared.fit(y), [prepared.fit(y[:, tile]) for tile in tiles(y.shape[1])]
    for name in ("offset_", "alphas_", "mixtures_", "cv_scores_"):
        joined = np.concatenate([getattr(part, name) for part in parts], axis=-1)
        np.testing.assert_array_equal(getattr(whole, name), joined)
    for voxels in (slice(None), slice(1000, 2050), slice(2048, 2057), slice(5, 5), slice(3, 2057, 500)):
        for ask in (lambda model, own: model.dual(own), lambda model, own: model.predict(x, voxels=own),
                    lambda model, own: model.predict(x, split=True, voxels=own)):  # fmt: skip
            joined = np.concatenate([ask(part, slice(None)) for part in parts], axis=-1)[..., voxels]
            np.testing.assert_array_equal(ask(whole, voxels), joined)
    assert (whole.bands, whole.scale, whole.parameters["name"]) == (("x",), "trace", "himalaya")
    assert VoxelCounts.count(whole) == sum(map(VoxelCounts.count, parts), VoxelCounts())
    assert not isinstance(whole, estimators.Nesting)
    with pytest.raises(InputError, match="some voxels at a time; fit another copy"):
        whole.fit(x, y)


class OneTileOfHimalaya(Himalaya):
    voxels_at_once = TILE


class Drawing(Stranger):
    """One that keeps a generator of random numbers, and refits subsets."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def fit(self, bands: dict, y: np.ndarray, **_: object) -> "Drawing":
        super().fit(bands, y)
        self.drawn, self.mixtures_ = self.rng.standard_normal(y.shape[1]), np.ones((1, y.shape[1]))
        return self

    def nested(self, subsets: object = None) -> dict:
        return {("x",): self}


def test_fits_of_a_stranger_that_draws_do_not_depend_on_those_before() -> None:
    rng = np.random.default_rng(0)
    x, y, drawing = {"x": rng.standard_normal((30, 3))}, rng.standard_normal((30, 8)), Drawing()
    prepared = estimators.prepare(drawing, x, sample=y)
    once, again = prepared.fit(y).drawn, prepared.fit(y).drawn
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(once, drawing.rng.standard_normal(8))  # the stranger's own has not moved


def test_what_a_stranger_nests_is_there_where_no_voxel_is_valid_and_where_voxels_are_many() -> None:
    rng = np.random.default_rng(0)
    x, y = {"x": rng.standard_normal((30, 3))}, rng.standard_normal((30, TILE + 4))
    y[:, TILE:] = 2.0
    prepared = estimators.prepare(Drawing(), x, sample=y)
    nothing, both = prepared.fit(y[:, TILE:]), prepared.fit(y)
    assert isinstance(nothing, estimators.Nesting)
    assert isinstance(both, estimators.Nesting)
    for subsets in (None, [["x"]]):
        assert np.isnan(nothing.nested(subsets)["x",].alphas_).all()
        assert np.isnan(both.nested(subsets)["x",].alphas_).sum() == 4
    joint = estimators.prepare(Drawing(), {"x": x["x"], "w": x["x"]}, sample=y).fit(y[:, TILE:])
    nested = joint.nested()
    assert list(nested) == [("x",), ("w",), ("x", "w")]
    assert nested["w",].predict_gram({"w": x["x"]}).shape == (1, 30, 4)


def test_himalaya_asks_for_many_voxels_at_once_and_is_what_it_is_alone() -> None:
    bands, y = planted(60, 5)
    own = {"alphas": ALPHAS, "n_iter": 3}
    prepared = estimators.prepare(
        estimators.make("himalaya", **own), centred_grams(bands), sample=y[:, ::40], by="gram"
    )
    assert prepared.voxels_at_once == 16 * TILE
    alone = estimators.make("himalaya", **own).fit_gram(centred_grams(bands), y[:, :50])
    np.testing.assert_array_equal(prepared.fit(y[:, :50]).dual(), alone.dual())
    assert np.isnan(prepared.fit(y[:, TILE : TILE + 9]).dual()).all()


def test_what_does_not_match_what_was_prepared_is_an_error_in_one_line() -> None:
    bands, y = planted(60, 5)
    prepared = estimators.prepare(BandedRidge(), bands, sample=y[:, ::40])
    with pytest.raises(AlignmentError, match="responses has 59, prepared has 60"):
        prepared.fit(y[1:])
    with pytest.raises(InputError, match="Responses are float64; the fit was prepared with a sample of float32"):
        prepared.fit(y.astype(np.float64))
    with pytest.raises(InputError, match="by must be 'columns' or 'gram'; got 'rows'"):
        estimators.prepare(BandedRidge(), bands, sample=y, by="rows")
