"""The figures of the package, each with what it is drawn from and what it cannot be drawn without."""

from __future__ import annotations

from typing import Final

from latentcortex.reporting import cortex, cuts, profiles, viewer
from latentcortex.reporting.report_figure import ReportFigure
from latentcortex.statistics import CEILING, PREFERRED, PRODUCT_SHARE, UNIQUE_LIMIT, R

CEILING_MAP: Final = ReportFigure(cortex.ceiling, CEILING, viewer=viewer.ceiling)
CEILING_SLICES: Final = ReportFigure(cuts.ceiling, CEILING, "volume", instead_of_cortex=True)
ACCURACY_FLAT: Final = ReportFigure(cortex.accuracy_flat, R, "flat", viewer=viewer.accuracy, prevalence=True)
ACCURACY_INFLATED: Final = ReportFigure(cortex.accuracy_inflated, R)
ACCURACY_SLICES: Final = ReportFigure(cuts.accuracy, R, "volume")
ACCURACY_GLASS: Final = ReportFigure(cuts.glass, R, "mni", default=False)
PREDICTION_AGAINST_CEILING: Final = ReportFigure(
    cortex.against_ceiling, R, "place", n_models=(1, 10_000), beside=CEILING
)
WINNER: Final = ReportFigure(cortex.winner, R, n_models=(2, 7))
RGB: Final = ReportFigure(cortex.rgb, R, n_models=(3, 3))
DIFFERENCES: Final = ReportFigure(cortex.differences, R, default=False, n_models=(2, 4))
SHARES: Final = ReportFigure(cortex.shares, PRODUCT_SHARE, along_axis=True, viewer=viewer.shares)
SHARES_SLICES: Final = ReportFigure(cuts.shares, PRODUCT_SHARE, "volume", instead_of_cortex=True, along_axis=True)
SHARE_PROFILES: Final = ReportFigure(profiles.share_profiles, PRODUCT_SHARE, "atlas", along_axis=True)
STRENGTH_BY_STEP: Final = ReportFigure(
    profiles.surfaces, PRODUCT_SHARE, "atlas", default=False, along_axis=True, of_all_together=True
)
SIMILARITY: Final = ReportFigure(
    profiles.similarity, PRODUCT_SHARE, "place", default=False, n_models=(2, 12), along_axis=True
)
PREFERRED_LAYERS: Final = ReportFigure(cortex.preferences, PREFERRED, viewer=viewer.preferences)
LAYER_SHARES: Final = ReportFigure(cortex.partition, PRODUCT_SHARE, viewer=viewer.partition)
LEARNING_CURVE: Final = ReportFigure(profiles.learning_curve, UNIQUE_LIMIT, "")
ACCURACY_BY_TEST_SET: Final = ReportFigure(profiles.generalisation, R, "")
HISTOGRAMS: Final = ReportFigure(profiles.histograms, R, "", default=False, below_any=True)
