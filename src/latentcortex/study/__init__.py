"""One TOML file is one study: it runs the stages, and skips what is done."""

from latentcortex.study.inspection import Inspection
from latentcortex.study.outcome import Outcome
from latentcortex.study.study import Study

__all__ = ["Inspection", "Outcome", "Study"]
