"""Files that replace others: whole or not at all, under their own permissions."""

import os
import stat

import pytest

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
