"""Maps -> what a paper needs: BIDS derivatives, figures, an ROI table, a methods paragraph and one page."""

from latentcortex.reporting.content import LOG, Content, Figure, background_of, facts_of, models, significant
from latentcortex.reporting.figures import SHELF as FIGURES
from latentcortex.reporting.figures import check_cortex, check_figures, chosen
from latentcortex.reporting.group import GroupResults, write_group
from latentcortex.reporting.honesty import honesty, unidentifiable
from latentcortex.reporting.methods_text import SOFTWARE, methods, references
from latentcortex.reporting.page import write, write_dataset
from latentcortex.reporting.rebuilding import rebuild
from latentcortex.reporting.reconstructions import Reconstructions, measure_title, write_reconstructions
from latentcortex.reporting.report_figure import ReportFigure
from latentcortex.reporting.roi_tables import RegionRow, latex, region_tables
from latentcortex.reporting.section import ReportSection
from latentcortex.reporting.tables import alterations, bands_table, roi_table, summary_rows, write_summary, write_table
from latentcortex.reporting.titles import title_of
from latentcortex.reporting.viewer import check_viewer, viewer_of, viewer_page, write_viewer

__all__ = [
    "FIGURES",
    "LOG",
    "SOFTWARE",
    "Content",
    "Figure",
    "GroupResults",
    "Reconstructions",
    "RegionRow",
    "ReportFigure",
    "ReportSection",
    "alterations",
    "background_of",
    "bands_table",
    "check_cortex",
    "check_figures",
    "check_viewer",
    "chosen",
    "facts_of",
    "honesty",
    "latex",
    "measure_title",
    "methods",
    "models",
    "rebuild",
    "references",
    "region_tables",
    "roi_table",
    "significant",
    "summary_rows",
    "title_of",
    "unidentifiable",
    "viewer_of",
    "viewer_page",
    "write",
    "write_dataset",
    "write_group",
    "write_reconstructions",
    "write_summary",
    "write_table",
    "write_viewer",
]
