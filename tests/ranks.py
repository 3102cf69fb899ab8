"""Programs that run on several ranks: `mpiexec` for real, on as many processes as asked for, whatever the cores."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

NETS = Path(__file__).with_name("spread_nets.py")
PATIENCE = 240  # seconds: what hangs fails; kernels may have to be compiled first


def start_command(ranks):
    """What comes before the program; `mpiexec` is that of the environment, where the wheel of MPICH has put it."""
    return [str(Path(sys.executable).with_name("mpiexec")), "-n", str(ranks), sys.executable, "-m", "mpi4py"]


def run(ranks, command, cwd=None):
    """Run a command on so many ranks; return the completed process, with its output as text."""
    whole = [*start_command(ranks), *map(str, command)]
    return subprocess.run(whole, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd)


def run_program(ranks, folder, program, cwd=None):
    """Run a program that is written into a folder first, beside the nets that it may train."""
    shutil.copy(NETS, folder)
    path = folder / "program.py"
    path.write_text(textwrap.dedent(program))
    return run(ranks, [path], cwd)


def printed(done):
    """What a program that ended well has printed as lines of JSON on its first rank."""
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
