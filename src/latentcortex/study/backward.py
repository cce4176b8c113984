"""The way back of a study: responses -> decoded features -> images -> how like the seen ones they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any, Final

import numpy as np

from latentcortex import _files, decoding, evaluation, reconstructors, reporting
from latentcortex._arrays import FloatArray, digest, refuse_beyond_memory
from latentcortex._methods import Part, Sentences
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
from latentcortex.study.material import Material
from latentcortex.study.methods import of_metrics, of_routes, plain
from latentcortex.study.schema import BACKWARD, DECODING, LOOKS

logger = logging.getLogger(__name__)

STAGES: Final = ("decode", "reconstruct", "evaluate")
OURS: Final = (
    *("sub-*.html", "sub-*/figures/*.*", "sub-*/sub-*_*.tsv", "sub-*/sub-*_reconstructions.json"),
    *("sub-*/sub-*_pictures.npz", LOG, "summary.json"),
)
"""What this half writes, in a folder of its own below the folder of results."""
KINDS: Final = ("decoded", "shuffled")
PICTURES: Final = 10
"""Stimuli in the page's grid."""
BASELINE: Final = "retrieval"
"""The reconstructor, and its route, that every other one must beat."""
DECODABLE: Final = ("z", "c")
"""Bands that are decoded where the study names none."""

Reconstructed = dict[str, Stimuli]


def _telling_of(kind: str) -> AbstractContextManager[None]:
    """Mark in the log what is told of the shuffled control."""
    return _files.telling_of(control="shuffled responses") if kind == "shuffled" else nullcontext()


class Backward:
    """Decodes, reconstructs and evaluates; beside each result the same from shuffled responses.

    Parameters
    ----------
    material : Material
    """

    def __init__(self, material: Material) -> None:
        self.material, self.study, self.out = material, material.study, material.out / FOLDER
        made_by = [one.made_by for one in self.reconstructors[:-1]]
        made_by += [metric.made_by for metric in self.metrics.values()]
        key, sources = digest(material.key(BACKWARD), made_by), {"the reconstructor or a metric": digest(made_by)}
        looks = material.settings.report.model_dump(mode="json", include=set(LOOKS) - {"figures"})
        sources |= material.sources
        self.record = ResultsFolder(self.out, key, material.depends(BACKWARD), OURS, looks, sources)

    # What is wanted

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that are decoded."""
        given, there = self.material.settings.decoding, self.material.extractor.bands
        wanted = tuple(given.bands or decoding.regions_of(given.rois) or [b for b in DECODABLE if b in there])
        missing = [band for band in wanted if band not in there]
        if missing or not wanted:
            what = f"{', '.join(missing)} is not among" if missing else "neither z nor c is among"
            raise InputError(f"Nothing to decode: {what} the bands of the extractor; set `bands` in [decoding].")
        return wanted

    @cached_property
    def reconstructors(self) -> list[Reconstructor]:
        """The reconstructor of the study and, last, the baseline, which may be the same."""
        given = self.material.settings.reconstructor
        if reconstructors.SHELF.find(given.name) is Retrieval:
            return [self.study.reconstructor(**({} if "bands" in given.arguments else {"bands": self.bands}))]
        return [self.study.reconstructor(), Retrieval(self.bands)]

    @cached_property
    def routes(self) -> dict[str, Reconstructor]:
        """The routes to an image, each with its reconstructor; by default all whose bands are decoded."""
        asked, found = "routes" in self.material.settings.reconstructor.arguments, {}
        for one in self.reconstructors:
            possible = [route for route, needed in one.routes.items() if asked or set(needed) <= set(self.bands)]
            for route in possible or one.routes:
                if route in found:
                    raise InputError(
                        f"The reconstructor {self.material.settings.reconstructor.name!r} calls a route {route!r}, as "
                        "the baseline does; expected another name in its `routes`."
                    )
                needed_bands(one, route, self.bands)
                found[route] = one
            for route in [name for name in one.routes if name not in found]:
                logger.info("Route %s is left out: it needs %s.", route, " and ".join(one.routes[route]))
        return found

    def _images(self, splits: Splits) -> list[str]:
        """List the stimuli that are reconstructed: the first test stimuli of the table, or the first folds, or all."""
        place = {name: i for i, name in enumerate(self.material.stimuli.ids)}
        n = self.material.settings.evaluation.n_images
        ids: list[str] = []
        for _, test_ids in splits:  # whole folds: a stimulus is identified among those of its fold
            if not n or len(ids) < n:
                ids += sorted(test_ids, key=place.__getitem__)
        return ids if len(splits) > 1 else ids[: n or len(ids)]

    def check(self, judge: Callable[[str], None]) -> None:
        """Build and look at everything that a run needs, before anything is written; see `Forward.check`."""
        material = self.material
        with material.stages.watch("check"), _files.remembering() as self._noticed:
            refuse_links(self.out, ["logs", *(f"sub-{name}/figures" for name in material.participants)])
            material.check_features()
            for one in {id(one): one for one in self.routes.values()}.values():
                if isinstance(one, Checked):
                    one.check(material.extractor)
            self._methods()
            image = material.stimuli.load(material.stimuli.ids[0])
            self._check_metrics()
            self._check_counts(image.nbytes)
            for name in reversed(material.participants):
                with _files.telling_of(participant=name):
                    self._check_participant(name, judge)

    def _check_participant(self, name: str, judge: Callable[[str], None]) -> None:
        """Look at what is one participant's own."""
        material = self.material
        decoder, valid = self.study.decoder(material.atlas(name)), material.valid(name)
        for band in self.bands:
            decoder.candidates(band, material.space(name), valid)
        if material.by_embedding:
            seen = Seen(material.stimuli, category=material.settings.evaluation.category)
        else:
            material.check_splits(name)
            material.check_fits(name, decoder)
            judge(name)
            seen = self._seen(self._images(material.splits(name)), name)
        for metric in self.metrics.values():
            metric.check(Originals(seen.stimuli.images(seen.stimuli.ids[:1]), seen.stimuli.table))

    def _check_metrics(self) -> None:
        """Refuse a metric that was asked for and lacks what it needs."""
        asked = self.material.settings.evaluation
        missing = [name for name in asked.metrics if name not in self.metrics]
        if missing and "metrics" in asked.model_fields_set:
            needed = evaluation.SHELF.find(missing[0]).network
            raise InputError(
                f"The metric {missing[0]!r} in `metrics` in [evaluation] needs {needed or 'what is not there'}, and "
                f"the dataset {self.material.settings.dataset.name!r} has none; leave it out."
            )

    def _check_counts(self, image_bytes: int) -> None:
        """Refuse counts of which more would be held at once than the memory that is free."""
        evaluated, n = self.material.settings.evaluation, len(self.material.stimuli.ids)
        refuse_beyond_memory("n_bootstrap in [evaluation]", evaluated.n_bootstrap, 32 * n)
        n_images = min(evaluated.n_images or n, n)
        for route, one in self.routes.items():
            refuse_beyond_memory("n_samples in [reconstructor]", one.n_samples(route), 2 * image_bytes * n_images)

    # Stages

    def through(self, until: str) -> None:
        """Run up to a stage."""
        self.record.begin()
        with _files.logging_to(self.material.log(self.out)), self.record.claiming():
            _files.replay([*self.material.noticed, *self._noticed])
            for name in self.material.participants:
                with _files.telling_of(participant=name):
                    self._go_back(name, until)
        self.record.finish(STAGES[: STAGES.index(until) + 1])

    def tidy(self) -> None:
        """Delete what only runs need, which is nothing: all that is kept is part of the results."""

    def _go_back(self, participant: str, until: str) -> None:
        """Decode, reconstruct and evaluate one participant."""
        self.material.refuse(participant, extracted=True)
        self.material.check_splits(participant)
        decoded = {kind: self._decode(participant, kind) for kind in KINDS}
        for store in decoded.values():
            self.record.include(store.files)
        if until == "decode":
            return
        images = {kind: self._reconstruct(participant, kind, one) for kind, one in decoded.items()}
        if until == "evaluate":
            self._evaluate(participant, decoded, images)

    def _decode(self, participant: str, kind: str) -> Features:
        """Decode all test stimuli, from the responses as they are or shuffled, or open what was decoded before."""
        atlas = self.material.atlas(participant)
        key = digest(self.material.key(DECODING), self.bands, self.study.decoder(atlas).made_by)[:16]
        folder = self.out / f"sub-{participant}" / "decoded" / f"{kind}-{key}"
        with self.material.stages.watch("decode"), _telling_of(kind):
            there = opened(folder)
            if there is not None:
                return there
            parts: Iterable[tuple[Responses, Responses]] = self._split(participant)
            if kind == "shuffled":
                parts = decoding.shuffled(parts, seed=self.study.seed)
            features, groups = self.material.features.select_bands(self.bands), self._groups(participant)
            make = partial(self.study.decoder, atlas)
            return decoding.decode_held_out(make, features, parts, groups=groups).save(folder)

    def _split(self, participant: str) -> Iterator[tuple[Responses, Responses]]:
        """Part the responses in every fold, z-scored with the statistics of its training rows, and average them."""
        responses = self.material.all_voxels(participant)
        for train_ids, test_ids in self.material.splits(participant):
            train, test = responses.split(test_ids=test_ids, train_ids=train_ids, zscore=self.material.zscore)
            yield train.averaged(), test.averaged()

    def _reconstruct(self, participant: str, kind: str, decoded: Features) -> Reconstructed:
        """Reconstruct by every route; what was decoded from shuffled responses gets one sample."""
        splits, folder = self.material.splits(participant), self.out / f"sub-{participant}" / "reconstructions" / kind
        with self.material.stages.watch("reconstruct"), _telling_of(kind):
            for one in self.reconstructors:
                one.fit(self.material.features, self.material.stimuli, splits)
            return {
                route: reconstruct(
                    decoded,
                    one,
                    route,
                    store=folder,
                    ids=self._images(splits),
                    n_samples=1 if kind == "shuffled" else None,
                    progress=self.material.progress,
                    note=self.record.include,
                )
                for route, one in self.routes.items()
            }

    def _evaluate(
        self,
        participant: str,
        decoded: Mapping[str, Features],
        images: Mapping[str, Reconstructed],
    ) -> None:
        """Score everything, and write the table and the page."""
        stages, splits = self.material.stages, self.material.splits(participant)
        seen = self._seen(self._images(splits), participant)
        with stages.watch("evaluate"):
            scores = {}
            for kind in KINDS:
                with _telling_of(kind):
                    scores[kind] = dict(self._scores(seen, participant, decoded[kind], images[kind]))
            folds = enumerate(splits)
            means = {str(k): evaluation.mean_image(self.material.stimuli, train) for k, (train, _) in folds}
            beside = evaluation.mean_image_scores(seen, means, self.metrics)
            table = evaluation.score_table(scores["decoded"], scores["shuffled"], beside)
            with self.record.turn():
                reporting.write_table(self.out, participant, "scores", table)
        with self.record.turn(), stages.watch("report"):
            shown, page = seen.stimuli.ids[:PICTURES], f"sub-{participant}.html"
            rows = {route: evaluation.samples_of(one, shown)[:, 0] for route, one in images["decoded"].items()}
            decoder = self.study.decoder(self.material.atlas(participant))
            methods, references = plain({"decoder": Sentences(decoder.methods())} | self._methods())
            made_by = {"decoder": decoded["decoded"].made_by}
            made_by |= {route: one.made_by for route, one in self.routes.items()}
            made_by |= {f"metric {name}": metric.made_by for name, metric in self.metrics.items()}
            content = reporting.Reconstructions(
                participant=participant,
                names=shown,
                pictures={"seen": seen.stimuli.images(shown), **rows},
                scores=table,
                facts=self._facts(decoded["decoded"], images["decoded"], seen, splits),
                settings=self.material.settings.plain(BACKWARD),
                made_by=made_by,
                log=self.material.log(self.out),
                report=f"../{page}" if (self.material.out / page).is_file() else "",
                methods=methods,
                references=references,
                routes=self._route_titles,
                baseline=BASELINE,
                metrics={one.word: MetricTitle.of(one) for one in self.metrics.values()},
            )
            reporting.write_reconstructions(self.out, content, stages.table())
        with self.record.turn():
            _files.write_json(self.out / "summary.json", {"stages": stages.table()})

    def _methods(self) -> dict[str, Sentences]:
        """Let the reconstructors write what they do for the methods text."""
        chosen, baseline = self.material.settings.reconstructor, Part(self.reconstructors[-1], BASELINE, {})
        written = of_routes(self.routes, [Part(self.reconstructors[0], chosen.name, chosen.arguments), baseline])
        return written | of_metrics(self.metrics)

    @property
    def _route_titles(self) -> dict[str, str]:
        """What each route is called in tables and figures, by its reconstructor; its name where that says nothing."""
        titles = {
            route: one.titles if isinstance(one, TitledReconstructor) else {} for route, one in self.routes.items()
        }
        return {route: given.get(route, route) for route, given in titles.items()}

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """What images are compared by: of the metrics that are asked for those that have what they need."""
        return evaluation.make_metrics(self.material.dataset.probe(), self.material.settings.evaluation.metrics)

    def _seen(self, ids: Sequence[str], participant: str) -> Seen:
        pools = {name: str(k) for k, (_, test) in enumerate(self.material.splits(participant)) for name in test}
        category = self.material.settings.evaluation.category
        return Seen(self.material.stimuli.select_stimuli(ids), [pools[name] for name in ids], category)

    def _scores(
        self, seen: Seen, participant: str, decoded: Features, images: Reconstructed
    ) -> Iterator[tuple[str, dict[str, Score]]]:
        """Score decoded bands over all test stimuli, then every route over the stimuli that were reconstructed."""
        splits, seed = self.material.splits(participant), self.study.seed
        n_draws = self.material.settings.evaluation.n_bootstrap
        everything = self._seen(splits.tested, participant)
        groups = self._groups(participant)
        weights = evaluation.image_weights(everything.clusters(groups), n_draws=n_draws, seed=seed)
        latents: dict[str, Score] = {}
        for band in self.bands:
            means = {str(k): self._mean(band, train) for k, (train, _) in enumerate(splits)}
            latents |= evaluation.latent_scores(everything, band, self.material.features, decoded, means, weights)
        yield evaluation.DECODED, latents
        weights = evaluation.image_weights(seen.clusters(groups), n_draws=n_draws, seed=seed)
        for route, one in images.items():
            yield route, evaluation.image_scores(seen, one, self.metrics, weights, seed=seed)

    def _groups(self, participant: str) -> dict[str, str]:
        return self.material.groups(self.material.ids(participant))

    def _mean(self, band: str, ids: Sequence[str]) -> FloatArray:
        return np.asarray(self.material.features.array(band, ids).mean(0, dtype=np.float64))

    def _facts(self, decoded: Features, images: Reconstructed, seen: Seen, splits: Splits) -> dict[str, Any]:
        return {
            "n_train": len(splits.folds[0].train) if len(splits) == 1 else 0,
            "n_decoded": len(decoded.ids),
            "n_reconstructed": len(seen.stimuli.ids),
            "n_samples": max(int(one.table["sample"].max()) for one in images.values()),
            "n_folds": len(splits) if len(splits) > 1 else 0,
        }
