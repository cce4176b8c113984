"""Where the project lies, and recordings beside it that are not shipped."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
DATA = ROOT.parent / "shared" / "data"
"""Real recordings; tests that read them skip themselves where it is absent."""
