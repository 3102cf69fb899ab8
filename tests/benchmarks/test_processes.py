"""What a step costs a new process: the programs run, and their numbers reach the table."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks import processes


def test_the_numbers_of_the_programs_reach_the_table(monkeypatch, capsys):
    program = "import sys; print('noise'); print(float(sys.argv[1]) + float(sys.argv[2]) / 10)"
    monkeypatch.setattr(processes, "PROGRAMS", dict.fromkeys(processes.PROGRAMS, program))
    monkeypatch.setattr(processes, "installed", lambda name: name == "torch")
    ours, peer = processes.run(threads=2)
    assert ours["peak MiB"] == peer["peak MiB"] == 2 + processes.STEPS / 10
    assert ours["warm s"] > 0
    assert ours["cold s"] > 0
    assert peer["cold s"] is None
    assert [line.split("|")[1].strip() for line in capsys.readouterr().out.split("\n") if line.startswith("|")][2:] == [
        "minitrain", "PyTorch",
    ]  # fmt: skip


def test_a_program_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(processes, "PROGRAMS", {"minitrain": "raise SystemExit(3)"})
    with pytest.raises(processes.subprocess.CalledProcessError):
        processes.run(threads=1)


@pytest.mark.parametrize("name", processes.PROGRAMS)
def test_the_programs_train_a_step_and_count_its_memory(name, monkeypatch):
    if name == "PyTorch":
        pytest.importorskip("torch")
    small = processes.PROGRAMS[name].replace(f"({processes.BATCH}, 3, 32, 32)", "(2, 3, 32, 32)")
    small = small.replace(f"np.arange({processes.BATCH})", "np.arange(2)")
    small = small.replace("models.resnet20((3, 32, 32), 10)", "models.mlp((3, 32, 32), 10)")
    assert "resnet20" not in small
    monkeypatch.setattr(processes, "PROGRAMS", {name: small})
    monkeypatch.chdir(Path(__file__).parents[2])
    seconds, memory = processes._start(name, 1, 1)
    assert seconds > 0
    if Path("/proc/self/clear_refs").exists():
        assert 0 < memory < 1000
