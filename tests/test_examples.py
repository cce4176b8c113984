"""Every numbered example runs from a clean folder, and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from _paths import ROOT

EXAMPLES = ROOT / "examples"
PRINTS = {
    "01_arrays.py": "voxels at q < 0.05",
    "02_phantom.py": "mean share",
    "03_folder.py": "report: ",
    "07_components.py": "| unet_layer-mid_strength-80_step-50 |",
    "06_how_sure.py": "that the second band adds (Freedman, Lane)",
    "05_engine.py": "the model in the file predicts the same: True",
    "08_figures.py": "rgb.png: 85 mm wide, letters of 5.0 pt and more",
    "04_way_back.py": "zc, identification_space-pixels_fixed-original_pool-30: ",
}
NEEDS_TORCH = {"02_phantom.py", "04_way_back.py", "07_components.py"}


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("[0-9]*.py")} == set(PRINTS)


@pytest.mark.parametrize("name", sorted(PRINTS))
def test_example_runs(name, tmp_path):
    if name in NEEDS_TORCH:
        pytest.importorskip("torch", reason="needs the extra [ldm]")
    command = [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLES / name)]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300, env=quiet)
    assert found.returncode == 0, found.stderr
    assert PRINTS[name] in found.stdout
