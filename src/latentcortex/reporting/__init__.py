"""Maps -> what a paper needs: BIDS derivatives, figures, an ROI table, a methods paragraph and one page."""

from latentcortex.reporting.content import Content, Figure, facts_of, models, significant
from latentcortex.reporting.figures import FIGURES, chosen
from latentcortex.reporting.honesty import honesty, unidentifiable
from latentcortex.reporting.page import write, write_dataset
from latentcortex.reporting.reconstructions import Reconstructions, measure_title, write_reconstructions
from latentcortex.reporting.tables import alterations, compact, roi_table, summary_rows, write_summary, write_table
from latentcortex.reporting.text import REFERENCES, methods, title_of

__all__ = [
    "FIGURES",
    "REFERENCES",
    "Content",
    "Figure",
    "Reconstructions",
    "alterations",
    "chosen",
    "compact",
    "facts_of",
    "honesty",
    "measure_title",
    "methods",
    "models",
    "roi_table",
    "significant",
    "summary_rows",
    "title_of",
    "unidentifiable",
    "write",
    "write_dataset",
    "write_reconstructions",
    "write_summary",
    "write_table",
]
