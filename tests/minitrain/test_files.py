"""Files that are whole or not there."""

import pytest

from minitrain.files import replacing, write_text


def test_files_are_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "first")
    path.chmod(0o640)
    with pytest.raises(OSError), replacing(path) as temporary:  # noqa: PT012 (the block is what is tested)
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "first"
    write_text(path, "second")
    assert path.read_text() == "second"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]
    link = tmp_path / "link.txt"
    link.symlink_to(path)
    write_text(link, "third")
    assert link.is_symlink()
    assert path.read_text() == "third"
    with pytest.raises(IsADirectoryError, match="path: expected a file"):
        write_text(tmp_path, "x")
