"""Words of the page do not know how it is drawn."""

import ast

from paths import ROOT

EXPERIMENTS = ROOT / "minitrain" / "experiments"


def test_words_and_records_import_no_drawing():
    rooms = [EXPERIMENTS / "stability" / "words", EXPERIMENTS / "stability" / "records"]
    paths = [EXPERIMENTS / "words.py", *(path for room in rooms for path in room.glob("*.py"))]
    assert len(paths) > 10
    for path in paths:
        found = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom | ast.Import)
        ]
        names = " ".join(ast.unparse(node) for node in found)
        assert not any(word in names for word in ("figures", "style", "matplotlib")), path
