"""The documents tell the truth about names: files exist, links lead somewhere, code is valid, commands are there."""

import ast
import re
import textwrap

import pytest
from paths import ROOT

DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "nbnorm").rglob("*.md"),
                 *(ROOT / "minitrain").rglob("*.md"))
)  # fmt: skip
# What a short path may leave out.
PREFIXES = ("", "minitrain/", "nbnorm/", "benchmarks/", "minitrain/compile/", "minitrain/layers/", "minitrain/kernels/",
            "minitrain/kernels/conv2d/", "minitrain/kernels/conv2d/winograd/", "minitrain/training/ranks/")  # fmt: skip
FOLDERS = ("nbnorm/", "minitrain/", "tests/", "benchmarks/", "docs/", "examples/")


def label(value):
    return str(value.relative_to(ROOT)) if hasattr(value, "relative_to") else str(value)


def every(pattern):
    """Pairs of a document and each match of a pattern in it."""
    found = []
    for path in DOCUMENTS:
        found += [(path, match) for match in dict.fromkeys(re.findall(pattern, path.read_text(encoding="utf-8")))]
    assert found
    return pytest.mark.parametrize(("path", "match"), found, ids=label)


def test_the_documents_are_there():
    names = {path.name for path in DOCUMENTS if path.parent == ROOT / "docs"}
    assert names >= {"architecture.md", "glossary.md", "add-a-layer.md", "add-a-kernel.md", "numerics.md", "speed.md"}
    assert (ROOT / "minitrain/kernels/conv2d/README.md") in DOCUMENTS
    assert (ROOT / "nbnorm/jit/internals/README.md") in DOCUMENTS
    assert (ROOT / "docs/architecture.md").read_text().count("\n") < 200


@every(r"`([\w/.-]+(?:\.py|/))`")
def test_files_and_folders_that_they_name_exist(path, match):
    places = [ROOT / prefix / match for prefix in PREFIXES] + [path.parent / match]
    if match.startswith(FOLDERS):
        places = places[:1]
    assert any(place.exists() for place in places), f"{path.name} names {match}"


@every(r"\]\(((?!http)[^)#]+)\)")
def test_links_lead_somewhere(path, match):
    assert (path.parent / match).exists(), f"{path.name} links to {match}"


@every(r"python -m (benchmarks\.\w+|minitrain)\b")
def test_modules_that_they_run_exist(path, match):
    assert (ROOT / f"{match.replace('.', '/')}.py").exists() or (ROOT / match / "__main__.py").exists()


@every(r"-m pytest (tests/[\w/.]+)")
def test_tests_that_they_run_exist(path, match):
    assert (ROOT / match).exists()


@every(r"(?<!\.)\bminitrain (\w+) (?=--|digits|run)")
def test_commands_that_they_name_exist(path, match):
    from minitrain.cli import main

    with pytest.raises(SystemExit) as stopped:
        main([match, "--help"])
    assert stopped.value.code == 0


@every(r"(?s)```python\n(.*?)```")
def test_python_in_them_can_be_parsed(path, match):
    code = textwrap.dedent(match)
    if code.startswith("case "):
        code = "match None:\n" + textwrap.indent(code, "    ")
    ast.parse(code)


def test_programs_in_them_run():
    found = [code for path in DOCUMENTS for code in re.findall(r"(?s)```python\n(.*?)```", path.read_text())]
    programs = [code for code in found if "check_layer(" in code and "import minitrain\n" in code]
    assert programs
    for code in programs:
        exec(compile(code, "document", "exec"), {"__name__": "document"})


@every(r"`((?:nbnorm|minitrain)(?:\.\w+)+)`")
def test_dotted_names_in_them_can_be_found(path, match):
    import importlib

    parts = match.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for name in parts[count:]:
            found = getattr(found, name)
        return
    raise AssertionError(f"{path.name} names {match}")
