"""The stages from responses back to images: decode features, reconstruct images and score them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Final

import numpy as np
import pandas as pd

from latentcortex import _files, decoding, evaluation, reconstructors, reporting
from latentcortex._arrays import FloatArray, digest, refuse_beyond_memory
from latentcortex._methods import MethodsPart, Sentences
from latentcortex._results import LOG, ResultsFolder, refuse_links
from latentcortex.errors import InputError
from latentcortex.evaluation import Metric, Originals, Score, Seen
from latentcortex.extraction import opened
from latentcortex.features import Features
from latentcortex.reconstruction import needed_bands, reconstruct
from latentcortex.reconstructors import Checked, Reconstructor, TitledReconstructor
from latentcortex.reconstructors.retrieval import Retrieval
from latentcortex.reporting.reconstructions import FOLDER, MetricTitle
from latentcortex.responses import Responses
from latentcortex.splits import Splits
from latentcortex.stimuli import Stimuli
from latentcortex.study import requirements
from latentcortex.study.data import StudyData
from latentcortex.study.methods import of_metrics, of_routes, plain
from latentcortex.study.schema import DECODED_FEATURES_SECTIONS, DECODING_SECTIONS, FIGURE_SETTINGS

logger = logging.getLogger(__name__)

STAGES: Final = ("decode", "reconstruct", "evaluate")
OURS: Final = (
    *("sub-*.html", "sub-*/figures/*.*", "sub-*/sub-*_*.tsv", "sub-*/sub-*_reconstructions.json"),
    *("sub-*/sub-*_pictures.npz", LOG, "summary.json"),
)
"""Patterns of the files that these stages write, in a folder of their own below the folder of results."""
SOURCES: Final = ("decoded", "shuffled")
"""What reconstructions are made from: features decoded from the responses, or from shuffled ones as a control."""
MAX_SHOWN_STIMULI: Final = 10
"""Stimuli in the page's grid, so that it fits a screen."""
BASELINE: Final = "retrieval"
"""The reconstructor, and its route, that every other one must beat."""
DECODABLE: Final = ("z", "c")
"""Bands that are decoded where the study names none."""

Reconstructed = dict[str, Stimuli]


def _log_marked(source: str) -> AbstractContextManager[None]:
    """Mark every record of the log that comes from the shuffled control."""
    return _files.telling_of(control="shuffled responses") if source == "shuffled" else nullcontext()


class DecodingStages:
    """Decodes, reconstructs and evaluates; beside each result the same from shuffled responses.

    Parameters
    ----------
    data : StudyData
    """

    def __init__(self, data: StudyData) -> None:
        self.data, self.study, self.out = data, data.study, data.out / FOLDER
        made_by = [reconstructor.made_by for reconstructor in self.reconstructors[:-1]]
        made_by += [metric.made_by for metric in self.metrics.values()]
        self.results = ResultsFolder(
            self.out,
            digest(data.provenance.key(DECODING_SECTIONS), made_by),
            data.settings.depended_on(DECODING_SECTIONS),
            OURS,
            data.settings.report.model_dump(mode="json", include=set(FIGURE_SETTINGS) - {"figures"}),
            {"the reconstructor or a metric": digest(made_by), **data.provenance.sources},
        )

    # What is wanted

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that are decoded: those of [decoding], else those of its regions, else z and c."""
        settings, extracted = self.data.settings.decoding, self.data.extractor.bands
        by_default = [band for band in DECODABLE if band in extracted]
        bands = tuple(settings.bands or decoding.regions_of(settings.rois) or by_default)
        missing = [band for band in bands if band not in extracted]
        if missing or not bands:
            problem = f"{', '.join(missing)} is not among" if missing else "neither z nor c is among"
            raise InputError(f"Nothing to decode: {problem} the bands of the extractor; set `bands` in [decoding].")
        return bands

    @cached_property
    def reconstructors(self) -> list[Reconstructor]:
        """The reconstructor of the study and, last, the baseline, which may be the same."""
        settings = self.data.settings.reconstructor
        if reconstructors.SHELF.find(settings.name) is Retrieval:
            return [self.study.reconstructor(**({} if "bands" in settings.arguments else {"bands": self.bands}))]
        return [self.study.reconstructor(), Retrieval(self.bands)]

    @cached_property
    def routes(self) -> dict[str, Reconstructor]:
        """The routes to an image, each with its reconstructor; by default all whose bands are decoded."""
        named, taken = "routes" in self.data.settings.reconstructor.arguments, {}
        for reconstructor in self.reconstructors:
            needs = reconstructor.routes
            possible = [route for route, needed in needs.items() if named or set(needed) <= set(self.bands)]
            for route in possible or needs:
                if route in taken:
                    raise InputError(
                        f"The reconstructor {self.data.settings.reconstructor.name!r} calls a route {route!r}, as the "
                        "baseline does; expected another name in its `routes`."
                    )
                needed_bands(reconstructor, route, self.bands)
                taken[route] = reconstructor
            for route in [name for name in needs if name not in taken]:
                logger.info("Route %s is left out: it needs %s.", route, " and ".join(needs[route]))
        return taken

    def _images(self, splits: Splits) -> list[str]:
        """List the stimuli that are reconstructed: the first test stimuli of the table, or the first folds, or all."""
        row = {name: i for i, name in enumerate(self.data.stimuli.ids)}
        n_images = self.data.settings.evaluation.n_images
        ids: list[str] = []
        for _, test_ids in splits:  # whole folds: a stimulus is identified among those of its fold
            if not n_images or len(ids) < n_images:
                ids += sorted(test_ids, key=row.__getitem__)
        return ids if len(splits) > 1 else ids[: n_images or len(ids)]

    def check(self, judge: Callable[[str], None]) -> None:
        """Build and check everything that a run needs, before anything is written; see `EncodingStages.check`."""
        data = self.data
        with data.timer.measure("check"), _files.remembering() as self._noticed:
            refuse_links(self.out, ["logs", *(f"sub-{name}/figures" for name in data.participants)])
            requirements.check_features(data)
            for reconstructor in self.reconstructors:
                if isinstance(reconstructor, Checked) and any(reconstructor is used for used in self.routes.values()):
                    reconstructor.check(data.extractor)
            self._methods()
            image = data.stimuli.load(data.stimuli.ids[0])
            self._check_metrics()
            self._check_counts(image.nbytes)
            for name in reversed(data.participants):
                with _files.telling_of(participant=name):
                    self._check_participant(name, judge)

    def _check_participant(self, name: str, judge: Callable[[str], None]) -> None:
        """Build and check everything that a run needs of one participant alone."""
        data = self.data
        decoder, valid = self.study.decoder(data.atlas(name)), data.valid(name)
        for band in self.bands:
            decoder.candidates(band, data.space(name), valid)
        if data.settings.splits.by_embedding:
            seen = Seen(data.stimuli, category=data.settings.evaluation.category)
        else:
            requirements.check_splits(data, name)
            requirements.check_fits(data, name, decoder)
            judge(name)
            seen = self._seen(self._images(data.splits(name)), name)
        for metric in self.metrics.values():
            metric.check(Originals(seen.stimuli.images(seen.stimuli.ids[:1]), seen.stimuli.table))

    def _check_metrics(self) -> None:
        """Refuse a metric that was asked for and lacks what it needs."""
        settings = self.data.settings.evaluation
        missing = [name for name in settings.metrics if name not in self.metrics]
        if missing and "metrics" in settings.model_fields_set:
            needed = evaluation.SHELF.find(missing[0]).network
            raise InputError(
                f"The metric {missing[0]!r} in `metrics` in [evaluation] needs {needed or 'what is not there'}, and "
                f"the dataset {self.data.settings.dataset.name!r} has none; leave it out."
            )

    def _check_counts(self, image_bytes: int) -> None:
        """Refuse counts of which more would be held at once than the memory that is free."""
        settings, n_stimuli = self.data.settings.evaluation, len(self.data.stimuli.ids)
        refuse_beyond_memory("n_bootstrap in [evaluation]", settings.n_bootstrap, 32 * n_stimuli)
        bytes_per_sample = 2 * image_bytes * min(settings.n_images or n_stimuli, n_stimuli)
        for route, reconstructor in self.routes.items():
            n_samples = reconstructor.n_samples(route)
            refuse_beyond_memory("n_samples in [reconstructor]", n_samples, bytes_per_sample)

    # Stages

    def run(self, until: str) -> None:
        """Run every stage up to one, that one included."""
        self.results.begin()
        with _files.logging_to(self.out / LOG), self.results.claiming():
            _files.replay([*self.data.early_log, *self._noticed])
            for name in self.data.participants:
                with _files.telling_of(participant=name):
                    self._run_participant(name, until)
        self.results.finish(STAGES[: STAGES.index(until) + 1])

    def delete_intermediate(self) -> None:
        """Delete nothing: all that these stages write is part of the results."""

    def _run_participant(self, participant: str, until: str) -> None:
        """Decode, reconstruct and evaluate one participant."""
        requirements.refuse(self.data, participant, extracted=True)
        requirements.check_splits(self.data, participant)
        decoded = {source: self._decode(participant, source) for source in SOURCES}
        for store in decoded.values():
            self.results.include(store.files)
        if until == "decode":
            return
        images = {source: self._reconstruct(participant, source, features) for source, features in decoded.items()}
        if until == "evaluate":
            self._evaluate(participant, decoded, images)

    def _decode(self, participant: str, source: str) -> Features:
        """Decode all test stimuli, from the responses as they are or shuffled, or open what was decoded before."""
        atlas = self.data.atlas(participant)
        key = digest(
            self.data.provenance.key(DECODED_FEATURES_SECTIONS), self.bands, self.study.decoder(atlas).made_by
        )[:16]
        folder = self.out / f"sub-{participant}" / "decoded" / f"{source}-{key}"
        with self.data.timer.measure("decode"), _log_marked(source):
            decoded = opened(folder)
            if decoded is not None:
                return decoded
            folds: Iterable[tuple[Responses, Responses]] = self._train_and_test(participant)
            if source == "shuffled":
                folds = decoding.shuffled(folds, seed=self.study.seed)
            features, groups = self.data.features.select_bands(self.bands), self._groups(participant)
            make = partial(self.study.decoder, atlas)
            return decoding.decode_held_out(make, features, folds, groups=groups).save(folder)

    def _train_and_test(self, participant: str) -> Iterator[tuple[Responses, Responses]]:
        """Part the responses in every fold, z-scored with the statistics of its training rows, and average them."""
        responses = self.data.all_voxels(participant)
        for train_ids, test_ids in self.data.splits(participant):
            zscore = self.data.settings.responses.zscore
            train, test = responses.split(test_ids=test_ids, train_ids=train_ids, zscore=zscore)
            yield train.averaged(), test.averaged()

    def _reconstruct(self, participant: str, source: str, decoded: Features) -> Reconstructed:
        """Reconstruct by every route; what was decoded from shuffled responses gets one sample."""
        splits, folder = self.data.splits(participant), self.out / f"sub-{participant}" / "reconstructions" / source
        with self.data.timer.measure("reconstruct"), _log_marked(source):
            for reconstructor in self.reconstructors:
                reconstructor.fit(self.data.features, self.data.stimuli, splits)
            return {
                route: reconstruct(
                    decoded,
                    reconstructor,
                    route,
                    store=folder,
                    ids=self._images(splits),
                    n_samples=1 if source == "shuffled" else None,
                    progress=self.data.progress,
                    note=self.results.include,
                )
                for route, reconstructor in self.routes.items()
            }

    def _evaluate(self, participant: str, decoded: Mapping[str, Features], images: Mapping[str, Reconstructed]) -> None:
        """Score everything, and write the table and the page."""
        data, splits = self.data, self.data.splits(participant)
        seen = self._seen(self._images(splits), participant)
        with data.timer.measure("evaluate"):
            scores = {}
            for source in SOURCES:
                with _log_marked(source):
                    scores[source] = dict(self._scores(seen, participant, decoded[source], images[source]))
            mean_images = {str(k): evaluation.mean_image(data.stimuli, train) for k, (train, _) in enumerate(splits)}
            of_mean_images = evaluation.mean_image_scores(seen, mean_images, self.metrics)
            table = evaluation.score_table(scores["decoded"], scores["shuffled"], of_mean_images)
            with self.results.turn():
                reporting.write_table(self.out, participant, "scores", table)
        with self.results.turn(), data.timer.measure("report"):
            page = self._page(participant, seen, decoded["decoded"], images["decoded"], table)
            reporting.write_reconstructions(self.out, page, data.timer.table())
        with self.results.turn():
            _files.write_json(self.out / "summary.json", {"stages": data.timer.table()})

    def _page(
        self, participant: str, seen: Seen, decoded: Features, images: Reconstructed, scores: pd.DataFrame
    ) -> reporting.Reconstructions:
        """Put together what the page of a participant shows."""
        splits, ids, report = (
            self.data.splits(participant),
            seen.stimuli.ids[:MAX_SHOWN_STIMULI],
            f"sub-{participant}.html",
        )
        first_samples = {route: evaluation.samples_of(samples, ids)[:, 0] for route, samples in images.items()}
        decoder = self.study.decoder(self.data.atlas(participant))
        methods, references = plain({"decoder": Sentences(decoder.methods())} | self._methods())
        return reporting.Reconstructions(
            participant=participant,
            names=ids,
            pictures={"seen": seen.stimuli.images(ids), **first_samples},
            scores=scores,
            facts={
                "n_train": len(splits.folds[0].train) if len(splits) == 1 else 0,
                "n_decoded": len(decoded.ids),
                "n_reconstructed": len(seen.stimuli.ids),
                "n_samples": max(int(samples.table["sample"].max()) for samples in images.values()),
                "n_folds": len(splits) if len(splits) > 1 else 0,
            },
            settings=self.data.settings.plain(DECODING_SECTIONS),
            made_by={
                "decoder": decoded.made_by,
                **{route: reconstructor.made_by for route, reconstructor in self.routes.items()},
                **{f"metric {name}": metric.made_by for name, metric in self.metrics.items()},
            },
            log=self.out / LOG,
            report=f"../{report}" if (self.data.out / report).is_file() else "",
            methods=methods,
            references=references,
            routes=self._route_titles,
            baseline=BASELINE,
            metrics={metric.word: MetricTitle.of(metric) for metric in self.metrics.values()},
        )

    def _methods(self) -> dict[str, Sentences]:
        """Let the reconstructors write what they do for the methods text."""
        chosen, baseline = self.data.settings.reconstructor, MethodsPart(self.reconstructors[-1], BASELINE, {})
        written = of_routes(self.routes, [MethodsPart(self.reconstructors[0], chosen.name, chosen.arguments), baseline])
        return written | of_metrics(self.metrics)

    @property
    def _route_titles(self) -> dict[str, str]:
        """What each route is called in tables and figures, by its reconstructor; its name where that says nothing."""
        titled = {
            route: reconstructor.titles if isinstance(reconstructor, TitledReconstructor) else {}
            for route, reconstructor in self.routes.items()
        }
        return {route: titles.get(route, route) for route, titles in titled.items()}

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """What images are compared by: of the metrics that are asked for those that have what they need."""
        return evaluation.make_metrics(self.data.dataset.probe(), self.data.settings.evaluation.metrics)

    def _seen(self, ids: Sequence[str], participant: str) -> Seen:
        """Take these stimuli as originals, each with the fold that it is tested in."""
        folds = {name: str(k) for k, (_, test) in enumerate(self.data.splits(participant)) for name in test}
        category = self.data.settings.evaluation.category
        return Seen(self.data.stimuli.select_stimuli(ids), [folds[name] for name in ids], category)

    def _scores(
        self, seen: Seen, participant: str, decoded: Features, images: Reconstructed
    ) -> Iterator[tuple[str, dict[str, Score]]]:
        """Score decoded bands over all test stimuli, then every route over the stimuli that were reconstructed."""
        data, splits, seed = self.data, self.data.splits(participant), self.study.seed
        groups, n_draws = self._groups(participant), data.settings.evaluation.n_bootstrap
        tested = self._seen(splits.tested, participant)
        weights = evaluation.image_weights(tested.clusters(groups), n_draws=n_draws, seed=seed)
        latents: dict[str, Score] = {}
        for band in self.bands:
            means = {str(k): self._mean(band, train) for k, (train, _) in enumerate(splits)}
            latents |= evaluation.latent_scores(tested, band, data.features, decoded, means, weights)
        yield evaluation.DECODED, latents
        weights = evaluation.image_weights(seen.clusters(groups), n_draws=n_draws, seed=seed)
        for route, samples in images.items():
            yield route, evaluation.image_scores(seen, samples, self.metrics, weights, seed=seed)

    def _groups(self, participant: str) -> dict[str, str]:
        """Name the group of each stimulus of a participant; those that count as one share it."""
        return self.data.groups(self.data.ids(participant))

    def _mean(self, band: str, ids: Sequence[str]) -> FloatArray:
        """Average the features of a band over stimuli, float64 (n_dims,)."""
        return np.asarray(self.data.features.array(band, ids).mean(0, dtype=np.float64))
