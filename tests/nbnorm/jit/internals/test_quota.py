"""Cores that a container leaves to a process, from planted files of control groups."""

import os
import subprocess
import sys

import numba
import pytest
from paths import ROOT

from nbnorm.jit.internals import threads
from nbnorm.jit.internals.quota import available_cores, cpu_quota

V2, V1 = "0::/\n", "12:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n"


def plant(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/cpu.max":
          "50000 100000"}, 0.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "100000 100000", "sys/fs/cgroup/a/cpu.max":
          "400000 100000"}, 1.0),
        ({"proc/self/cgroup": "0::/elsewhere\n", "sys/fs/cgroup/cpu.max": "300000 100000"}, 3.0),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000",
          "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"}, 2.5),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
          "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1.0),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
          "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "100000 0"}, None),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": ""}, None),
        ({"proc/self/cgroup": "torn", "sys/fs/cgroup/cpu.max": "1 2 3"}, None),
    ],
)  # fmt: skip
def test_quota(files, quota, tmp_path):
    assert cpu_quota(plant(tmp_path, files)) == quota


@pytest.mark.parametrize(("quota", "cores"), [("20000", 1), ("100000", 1), ("150000", 2), ("300000", 3), ("max", 8)])
def test_cores(quota, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert available_cores(plant(tmp_path, {"sys/fs/cgroup/cpu.max": f"{quota} 100000"})) == cores


def test_affinity_counts_where_it_is_less(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5}, raising=False)
    assert available_cores(plant(tmp_path, {"sys/fs/cgroup/cpu.max": "400000 100000"})) == 1


PROGRAM = """
import os, pathlib, sys
import nbnorm.jit.internals.quota as quota
quota.available_cores = lambda: 1
import nbnorm, numba
from nbnorm.jit.internals import threads
print(numba.config.NUMBA_NUM_THREADS, numba.get_num_threads())
os.environ["NUMBA_OPT"] = "2"  # Numba reads all of its variables again
numba.config.reload_config()
print(numba.config.NUMBA_NUM_THREADS)
"""


@pytest.mark.parametrize(("given", "printed"), [(None, ["1", "1", "1"]), ("2", ["2", "2", "2"])])
def test_numba_starts_no_more_threads(given, printed):
    environment = {name: text for name, text in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({} if given is None else {"NUMBA_NUM_THREADS": given})
    source = PROGRAM.replace("import nbnorm.jit.internals.quota as quota", LOAD)
    command = [sys.executable, "-c", source]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.stdout.split() == printed, result.stderr


LOAD = """
import importlib.util
path = pathlib.Path(os.environ["PYTHONPATH"]) / "nbnorm/jit/internals/quota.py"
spec = importlib.util.spec_from_file_location("nbnorm.jit.internals.quota", path)
quota = importlib.util.module_from_spec(spec)
spec.loader.exec_module(quota)
sys.modules["nbnorm.jit.internals.quota"] = quota
"""


def test_threads_that_run_are_left_alone(monkeypatch):
    numba.get_num_threads()
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "launched", lambda: True)
    threads.respect_quota(1)
    assert "NUMBA_NUM_THREADS" not in os.environ
