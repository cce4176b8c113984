"""How tests run the parts of the battery: few runs by default, as many as the measurement has nightly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest


def runs(parts: Mapping[str, tuple[Any, int, int]], name: str) -> pytest.MarkDecorator:
    """Run one of these parts with few runs by default, and in full nightly."""
    _, fast, full = parts[name]
    several = [pytest.param(fast, id="fast")]
    several += [pytest.param(full, id="full", marks=pytest.mark.nightly)] if full > fast else []
    return pytest.mark.parametrize("n", several)


def missed(findings: Sequence[Any]) -> list[str]:
    """Say which findings are out of bounds."""
    assert findings
    return [str(one) for one in findings if not one.passed]
