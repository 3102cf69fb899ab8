"""The README: its examples run as printed, its commands are the two it promises, its links lead somewhere."""

import os
import re
import subprocess
import sys

import pytest
from paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def run(code, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::DeprecationWarning"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_training_example(tmp_path):
    code = next(example for example in EXAMPLES if "trainer.fit" in example)
    assert len([line for line in code.splitlines() if line.strip()]) <= 22
    result = run(code + "\nassert trainer.evaluate(x_test, y_test)['accuracy'] > 0.97", tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "digits.safetensors").exists()


def test_kernel_example(tmp_path):
    code = next(example for example in EXAMPLES if "nbnorm.batch_norm_forward" in example)
    check = (
        "assert y.shape == grads.dx.shape == x.shape and (running_var != 1).all()\n"
        "expected = (x - running_mean[:, None, None]) / np.sqrt(running_var[:, None, None] + 1e-5)\n"
        "np.testing.assert_allclose(y, expected, atol=1e-5)"
    )
    result = run(f"{code}\n{check}", tmp_path)
    assert result.returncode == 0, result.stderr


def test_every_python_example_is_tested():
    assert len(EXAMPLES) == 2


def test_the_two_commands():
    commands = re.findall(r"^python3 -m venv .*$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    assert "minitrain stability" in commands[0]
    assert commands[1].endswith("-m pytest -n 2")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:nbnorm|minitrain|tests|benchmarks)/[\w/.]*)`", README))))
def test_folders_that_it_names_exist(name):
    assert (ROOT / name).exists()
