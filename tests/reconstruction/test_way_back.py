"""The way back on the phantom: what each route gets right, what a shuffled brain gets, and who imports whom."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from _paths import DATA

from latentcortex import evaluation, reconstructors
from latentcortex.datasets.phantom import Phantom
from latentcortex.decoding import Decoder, decode_held_out, shuffled
from latentcortex.evaluation import Score, Seen
from latentcortex.features import Features
from latentcortex.reconstruction import reconstruct
from latentcortex.reconstructors.retrieval import Retrieval
from latentcortex.responses import Responses
from latentcortex.space import Atlas
from latentcortex.splits import Splits

pytest.importorskip("torch", reason="reconstruction by latent diffusion needs the extra [ldm]")

N_IMAGES, N_SHUFFLED = 300, 100
Scores = dict[str, dict[str, Score]]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom()


@pytest.fixture(scope="module")
def sides(phantom: Phantom) -> list[tuple[Responses, Responses]]:
    test_ids = [name for name in phantom.ids if name.startswith("test")]
    train, test = phantom.responses("01").split(test_ids=test_ids)
    return [(train.averaged(), test.averaged())]


@pytest.fixture(scope="module")
def score(phantom, sides, phantom_features: Features, tmp_path_factory) -> Callable[..., Scores]:
    """Decode, reconstruct once and score the first test stimuli, by every route."""
    stimuli, features = phantom.stimuli(), phantom_features.select_bands(["z", "c"])
    (train, test), atlas = sides[0], Atlas.find("phantom", "fsaverage5")

    def run(given: Iterable[tuple[Responses, Responses]], n_images: int) -> Scores:
        ids = [name for name in phantom.ids if name.startswith("test")][:n_images]
        seen = Seen(stimuli.select_stimuli(ids), category="scene")
        counts, metrics = (
            evaluation.image_weights(n_images, n_draws=500, seed=0),
            evaluation.make_metrics(phantom.probe()),
        )
        decoded = decode_held_out(lambda: Decoder("takagi2023", atlas=atlas), features, given)
        store = tmp_path_factory.mktemp("images")
        ldm = reconstructors.make("ldm", model="phantom", guidance=3, n_samples=1)
        nearest = Retrieval().fit(features, stimuli, Splits.held_out(train.ids, test.ids))
        found: Scores = {}
        for one in (ldm, nearest):
            for route in one.routes:
                images = reconstruct(decoded, one, route, store=store, ids=ids, progress=False)
                found[route] = evaluation.image_scores(seen, images, metrics, counts)
        return found

    return run


@pytest.fixture(scope="module")
def true_brain(score, sides) -> Scores:
    return score(sides, N_IMAGES)


def measures(scores: Scores, *words: str) -> list[str]:
    found = [name for name in scores["zc"] if all(word in name for word in words)]
    assert found
    return found


def test_zc_is_identified_above_z_alone_by_what_captions_name(true_brain):
    for measure in [*measures(true_brain, "identification", "attributes", f"pool-{N_IMAGES}"), "attribute_name-shape"]:
        low, _ = true_brain["zc"][measure].less(true_brain["z"][measure]).interval
        assert low > 0, measure


def test_zc_is_identified_above_c_alone_by_pixels(true_brain):
    for measure in measures(true_brain, "identification", "pixels"):
        low, _ = true_brain["zc"][measure].less(true_brain["c"][measure]).interval
        assert low > 0, measure


def test_every_route_is_far_above_chance(true_brain):
    for route, found in true_brain.items():
        for measure in measures(true_brain, "identification"):
            low, _ = found[measure].interval
            assert low > 0.6, (route, measure)


def test_a_shuffled_brain_is_at_chance_by_every_measure(score, sides):
    """Chance is that of reconstructions of others; .5 in identification, and up to sampling with two alternatives."""
    for route, found in score(shuffled(sides, seed=0), N_SHUFFLED).items():
        for measure, one in found.items():
            assert abs(one.value - one.chance) < 3 * one.standard_error, (route, measure, one)
            if measure.startswith(("identification", "attribute")):
                assert abs(one.value - 0.5) < 3 * one.standard_error, (route, measure, one)


def test_the_encoding_half_imports_nothing_of_the_decoding_half():
    code = (
        "import sys, latentcortex.analyses, latentcortex.reporting, latentcortex.maps\n"
        "names = ('decoding', 'reconstruction', 'reconstructors', 'evaluation', 'study')\n"
        "print([n for n in names if f'latentcortex.{n}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


DIGITS = DATA / "digits69"


@pytest.mark.skipif(not DIGITS.is_dir(), reason="the recording digits69 is not shipped with the project")
def test_digits_are_identified_from_decoded_z_and_not_from_a_shuffled_brain(tmp_path):
    """Voxels are chosen within the training stimuli of each fold; each stimulus is identified among its fold."""
    from latentcortex.datasets.folder import Folder
    from latentcortex.extraction import extract
    from latentcortex.extractors import make

    folder = Folder(str(DIGITS))
    stimuli, responses = folder.stimuli(), folder.responses("01")
    features = extract(stimuli, make("ldm", model="phantom", bands=["z"]), store=tmp_path, progress=False)
    splits = list(Splits.k_fold(responses.ids, 10, seed=0))
    sides = [responses.split(test_ids=test, train_ids=train) for train, test in splits]
    ids = [name for _, test in splits for name in test]
    seen = Seen(stimuli.select_stimuli(ids), [str(k) for k, (_, test) in enumerate(splits) for _ in test])
    means = {str(k): features.array("z", train).mean(0) for k, (train, _) in enumerate(splits)}
    counts = evaluation.image_weights(len(ids), n_draws=500, seed=0)

    def scores(given: Iterable[tuple[Responses, Responses]]) -> dict[str, Score]:
        decoded = decode_held_out(lambda: Decoder(n_voxels=300), features, given)
        found = evaluation.latent_scores(seen, "z", features, decoded, means, counts)
        return {name: one for name, one in found.items() if name.startswith("identification")}

    true = scores(sides)
    assert len(true) == 2
    assert min(one.value for one in true.values()) >= 0.9
    nothing = [scores(shuffled(sides, seed=seed)) for seed in range(4)]
    for name in true:
        error = np.mean([one[name].standard_error for one in nothing]) / 2
        assert abs(np.mean([one[name].value for one in nothing]) - 0.5) < 3 * error
