"""The figures of the package, each with what it is drawn from and what it cannot be drawn without."""

from __future__ import annotations

from typing import Final

from latentcortex.reporting import map_figures as maps
from latentcortex.reporting import profiles
from latentcortex.reporting.map_figures import drawn
from latentcortex.reporting.report_figure import ReportFigure
from latentcortex.statistics import CEILING, PREFERRED, PRODUCT_SHARE, UNIQUE_LIMIT, R

CEILING_MAP: Final = ReportFigure(drawn(maps.ceiling, "flat"), CEILING, viewer=maps.ceiling)
CEILING_SLICES: Final = ReportFigure(
    drawn(maps.ceiling, "slices", "-slices"), CEILING, "volume", instead_of_cortex=True
)
ACCURACY_FLAT: Final = ReportFigure(
    drawn(maps.accuracy, "flat", "-flat"), R, "flat", viewer=maps.accuracy, prevalence=True
)
ACCURACY_INFLATED: Final = ReportFigure(drawn(maps.accuracy, "inflated", "-inflated"), R)
ACCURACY_SLICES: Final = ReportFigure(drawn(maps.accuracy, "slices", "-slices"), R, "volume")
ACCURACY_GLASS: Final = ReportFigure(drawn(maps.accuracy, "glass", "-glass"), R, "mni", default=False)
PREDICTION_AGAINST_CEILING: Final = ReportFigure(
    profiles.against_ceiling, R, "place", n_models=(1, 10_000), beside=CEILING
)
WINNER: Final = ReportFigure(drawn(maps.winner, "flat"), R, n_models=(2, 7))
RGB: Final = ReportFigure(drawn(maps.rgb, "flat"), R, n_models=(3, 3))
DIFFERENCES: Final = ReportFigure(drawn(maps.differences, "flat"), R, default=False, n_models=(2, 4))
SHARES: Final = ReportFigure(drawn(maps.shares, "flat"), PRODUCT_SHARE, along_axis=True, viewer=maps.shares)
SHARES_SLICES: Final = ReportFigure(
    drawn(maps.shares, "slices", "-slices"), PRODUCT_SHARE, "volume", instead_of_cortex=True, along_axis=True
)
SHARE_PROFILES: Final = ReportFigure(profiles.share_profiles, PRODUCT_SHARE, "atlas", along_axis=True)
STRENGTH_BY_STEP: Final = ReportFigure(
    profiles.surfaces, PRODUCT_SHARE, "atlas", default=False, along_axis=True, of_all_together=True
)
SIMILARITY: Final = ReportFigure(
    profiles.similarity, PRODUCT_SHARE, "place", default=False, n_models=(2, 12), along_axis=True
)
PREFERRED_LAYERS: Final = ReportFigure(drawn(maps.preferences, "flat"), PREFERRED, viewer=maps.preferences)
LAYER_SHARES: Final = ReportFigure(drawn(maps.partition, "flat"), PRODUCT_SHARE, viewer=maps.partition)
LEARNING_CURVE: Final = ReportFigure(profiles.learning_curve, UNIQUE_LIMIT, "")
ACCURACY_BY_TEST_SET: Final = ReportFigure(profiles.generalisation, R, "")
HISTOGRAMS: Final = ReportFigure(profiles.histograms, R, "", default=False, below_any=True)
