"""Every intrinsic of `nbnorm.simd` against NumPy, at every width of vectors; the next one can't be forgotten."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT


def run(*args, **environment):
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("program.py")), *args],
        capture_output=True, text=True, timeout=300, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("width", [16, 32, 64])
def test_intrinsics_are_what_numpy_says(width):
    assert "check_tiles float64" in run(NBNORM_VECTOR_BYTES=str(width))


def test_every_intrinsic_is_checked():
    assert run("names").split() == [], "in no @checks(...), or entered and not there"
