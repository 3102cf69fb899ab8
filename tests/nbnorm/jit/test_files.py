"""Files that replace others: whole or not at all, under their own permissions."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from paths import ROOT

from nbnorm.jit import files
from nbnorm.jit.files import replacing, replacing_path


def permissions(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("durable", [False, True])
def test_the_new_file_takes_the_place_of_the_old_one(tmp_path, durable):
    path = tmp_path / "file.txt"
    for content in ("first", "second"):
        with replacing_path(path, durable=durable) as temporary:
            assert temporary.suffix == ".txt"
            assert temporary != path
            temporary.write_text(content)
        assert path.read_text() == content
    assert os.listdir(tmp_path) == ["file.txt"]


def test_nobody_sees_a_part_and_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as file:  # noqa: PT012 (the block is what is tested)
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        raise OSError("disk full")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_permissions(tmp_path):
    mask = os.umask(0o022)
    try:
        with replacing_path(tmp_path / "open"):
            pass
        with replacing(tmp_path / "mine"):
            pass
        assert (permissions(tmp_path / "open"), permissions(tmp_path / "mine")) == (0o644, 0o600)
        (tmp_path / "open").chmod(0o640)
        with replacing_path(tmp_path / "open"):
            pass
        assert permissions(tmp_path / "open") == 0o640
    finally:
        os.umask(mask)


WRITER = """
import sys, time
from pathlib import Path
from nbnorm.jit.files import replacing_path
with replacing_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(files.fcntl is None, reason="needs locks of files")
@pytest.mark.parametrize("name", ["file.txt", "with [brackets] +.json", "noending"])
def test_what_a_killed_process_left_is_collected(tmp_path, name):
    path = tmp_path / name
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout.readline() == b"writing\n"
        (left,) = tmp_path.iterdir()
        old = time.time() - 2 * files.YOUNG
        os.utime(left, (old, old))
        with replacing_path(path) as temporary:
            temporary.write_text("whole")
        assert left.exists()  # who writes it lives
        process.send_signal(signal.SIGKILL)
        process.wait()
        other = tmp_path / f".another-{left.name[-16:]}"
        other.write_text("not of this file")
        os.utime(other, (old, old))
        with replacing_path(path) as temporary:
            temporary.write_text("whole again")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert {each.name for each in tmp_path.iterdir()} == {name, other.name}
    assert path.read_text() == "whole again"


def test_what_was_written_just_now_is_left_alone(tmp_path):
    young = tmp_path / f".file-{'0' * files.DIGITS}.txt"
    young.write_text("may be locked in a moment")
    with replacing_path(tmp_path / "file.txt"):
        assert young.exists()
