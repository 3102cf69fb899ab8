"""What is missing is named: scikit-learn itself, and what older ones do not have."""

import os
import subprocess
import sys

import pytest
from paths import ROOT

WITHOUT = """
import sys
sys.modules[{missing!r}] = None  # importing it fails
"""


def run(missing, program):
    text = WITHOUT.format(missing=missing) + program
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT, env=environment)
    return result.stdout.strip(), result.stderr.strip()


def test_without_scikit_learn_the_error_says_what_to_install():
    output, error = run(
        "sklearn",
        """
import importlib
for name in ("minitrain.sklearn", "minitrain.sklearn.classifier", "minitrain.sklearn.rows"):
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(error)
""",
    )
    expected = 'minitrain.sklearn needs the package sklearn: pip install "minitrain[sklearn]"'
    assert output.splitlines() == [expected] * 3, error


def test_an_older_one_has_all_but_callbacks():
    pytest.importorskip("sklearn")
    output, error = run(
        "sklearn.callback",
        """
import numpy as np
from minitrain.sklearn import NetRegressor
x = np.arange(12.0).reshape(6, 2)
print(NetRegressor(epochs=2, hidden=(8,)).fit(x, x[:, 0]).predict(x).shape)
NetRegressor().set_callbacks(None)
""",
    )
    assert output == "(6,)", error
    assert "ImportError: set_callbacks: expected scikit-learn 1.9 or later, got" in error.splitlines()[-1]
