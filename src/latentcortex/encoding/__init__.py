"""Features and responses -> maps: fit on training stimuli, score on others, split between bands."""

from latentcortex.encoding.cells import Cell, Cells
from latentcortex.encoding.chunks import HeldOutSides, ReadByChunk, Sample
from latentcortex.encoding.criterion import Criterion, Null, is_series
from latentcortex.encoding.encoder import Encoder, usable
from latentcortex.encoding.fitted import FittedModel
from latentcortex.encoding.folds import Folds
from latentcortex.encoding.halves import HalfFits, Halves
from latentcortex.encoding.map_columns import SHARES, Column, Share, rejudged, significance
from latentcortex.encoding.models import ModelPlan
from latentcortex.encoding.pieces import Piece
from latentcortex.encoding.prediction import Prediction
from latentcortex.encoding.roi_intervals import RegionMeans
from latentcortex.encoding.unique import RefitData, check_share_test

__all__ = [
    "SHARES",
    "Cell",
    "Cells",
    "Column",
    "Criterion",
    "Encoder",
    "FittedModel",
    "Folds",
    "HalfFits",
    "Halves",
    "HeldOutSides",
    "ModelPlan",
    "Null",
    "Piece",
    "Prediction",
    "ReadByChunk",
    "RefitData",
    "RegionMeans",
    "Sample",
    "Share",
    "check_share_test",
    "is_series",
    "rejudged",
    "significance",
    "usable",
]
