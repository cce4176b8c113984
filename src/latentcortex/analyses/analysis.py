"""What an analysis is: its models, which of them are compared, and how their maps are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from latentcortex._arrays import FloatArray, listed
from latentcortex.analyses.groups import ModelGroup
from latentcortex.analyses.models import BandTable
from latentcortex.analyses.scorer import Scorer
from latentcortex.bands import Model
from latentcortex.errors import InputError
from latentcortex.features import Features
from latentcortex.maps import Maps


@dataclass(frozen=True)
class StimulusCounts:
    """How many stimuli of a participant an analysis can be sure of before anything is computed.

    Parameters
    ----------
    n_stimuli : int
    n_train : int, optional
        Of the test set's training side; None across folds, and where sides are chosen by features.
    n_clusters : int
        Into which stimuli are clustered where an analysis splits them by clusters.
    """

    n_stimuli: int
    n_train: int | None
    n_clusters: int


class AllStimuli(Protocol):
    """The stimuli of a participant, for analyses that split them anew."""

    @property
    def ids(self) -> tuple[str, ...]:
        """List the stimuli, each once."""
        ...

    @property
    def groups(self) -> list[str]:
        """Name the group of each stimulus; those of one group are as good as one and share a side."""
        ...

    @property
    def n_clusters(self) -> int:
        """Into how many clusters stimuli are clustered."""
        ...

    def places(self) -> FloatArray:
        """Lay the stimuli out by the embedding of the study, (n_stimuli, n_dims)."""
        ...

    def features(self, train_ids: Sequence[str]) -> Features:
        """Return the features as models fitted to these stimuli take them, with components of theirs."""
        ...


@dataclass(frozen=True)
class Analysis:
    """A named set of models, of which each is fitted and scored by itself.

    This is the plainest analysis. Others are classes of it, one file each, that replace what is different: `choose`
    says which models there are, `plan` which of them are compared and how, `check` whether the data suffice, `maps`
    computes in another way altogether. Nothing else asks for an analysis's name.

    Parameters
    ----------
    name : str
        Of the analysis, in maps, files and the report.
    models : sequence of sequences of str
        The bands of each model; kept as a tuple of `Model`.
    """

    name: str
    models: tuple[Model, ...]

    title: ClassVar[str] = ""
    """Heads its section of the report."""
    needs: ClassVar[str] = "a band"
    """The bands without which there is no model, in words."""
    methods: ClassVar[str] = ""
    """Sentences of the methods text on what only this analysis does; empty where maps and settings say it all."""
    needs_test_set: ClassVar[bool] = False
    """Whether it cannot be run across folds."""
    refits_nested: ClassVar[bool] = False
    """Whether it refits its models without each of their bands, whichever shares are asked for."""
    figures: ClassVar[tuple[str, ...]] = ()
    """Names of the figures that stand below it in the report, in this order; without any, histograms of r do."""
    axis: ClassVar[str] = ""
    """The entity of bands, such as `strength`, along which its models differ, for figures across them."""

    def __post_init__(self) -> None:
        """Take models as sequences of names, too."""
        object.__setattr__(self, "models", tuple(map(Model, self.models)))

    @classmethod
    def of(cls, name: str, bands: Sequence[str]) -> Self:
        """Choose the models among the bands that there are.

        Raises
        ------
        InputError
            If no band is there that the analysis needs.
        """
        models = cls.choose(BandTable.of(bands))
        if not models:
            raise InputError(
                f"Analysis {name!r} needs {cls.needs}; there are {listed(bands)}. Extract them, or leave it out of "
                "`run` in [analyses]; 'latents' takes any bands."
            )
        return cls(name, tuple(map(Model, models)))

    @property
    def parts(self) -> tuple[str, ...]:
        """What its maps are called in the column `analysis`, where these are several; by default as it is itself."""
        return ()

    @classmethod
    def choose(cls, bands: BandTable) -> Sequence[Sequence[str]]:
        """List the models, each as the names of its bands; by default each band alone."""
        return [(band,) for band in bands.names]

    def check(self, counts: StimulusCounts) -> None:
        """Raise `InputError` if a participant has too few stimuli."""

    def plan(self, scorer: Scorer) -> list[ModelGroup]:
        """Put models together that one cell fits, since they are compared; by default each is alone."""
        return [ModelGroup((bands,)) for bands in self.models]

    def maps(self, scorer: Scorer, stimuli: AllStimuli | None = None) -> Maps | None:
        """Compute the maps of one participant; None where the data allow of none.

        Parameters
        ----------
        scorer : Scorer
            Fits and scores on the study's test set, or across its folds.
        stimuli : AllStimuli, optional
            For analyses that split them anew.
        """
        return scorer.score(self)
