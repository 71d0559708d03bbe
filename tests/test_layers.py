"""The direction of imports: stories above training and data, those above planning, that above core."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "llm_installer"
LEVELS = {
    "core": 0,
    "tiny": 0,
    "planning": 1,
    "data": 2,
    "distributed": 3,
    "models": 3,
    "training": 3,
    "ui": 3,
    "inference": 4,
    "install": 4,
    "runs": 5,
}
STORY = 6
FILES = sorted(PACKAGE.rglob("*.py"))


def level(module: str) -> int:
    room = [*module.split("."), ""][1]
    return LEVELS.get(room, STORY)


def imports(file: Path) -> list[tuple[str, bool]]:
    """(module, only for type checking) of every import of our own package in a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
        found += [(name, id(node) in typing_only) for name in names]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_no_import_points_upward(file: Path) -> None:
    own = ".".join(("llm_installer", *file.relative_to(PACKAGE).with_suffix("").parts))
    for name, typing_only in imports(file):
        assert name.partition(".")[0] not in ("handlers", "templates", "tests"), f"{file} imports {name}"
        if name.startswith("llm_installer.") and not typing_only:
            assert level(name) <= level(own), f"{file} imports {name}, which lies above it"


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["start", "--help"], ["list"]])
def test_looking_around_loads_no_torch(command: list[str]) -> None:
    code = (
        "import sys; sys.argv[1:] = %r\n"
        "from llm_installer.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'matplotlib', 'pyarrow', 'peft'} & set(sys.modules)\n"
        "print('HEAVY', heavy, 'CODE', code)"
    )
    done = subprocess.run([sys.executable, "-c", code % command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.endswith("HEAVY set() CODE 0\n"), done.stdout[-300:] + done.stderr


def test_files_and_functions_stay_small() -> None:
    """House rule 9, with a little air."""
    large = [f"{f.name}: {n}" for f in FILES if (n := len(f.read_text(encoding="utf-8").splitlines())) > 300]
    long = [
        f"{f.name}:{node.name}"
        for f in FILES
        for node in ast.walk(ast.parse(f.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno > 60
    ]
    assert (large, long) == ([], [])


def test_nothing_catches_everything() -> None:
    """But for the one place that calls code of the user, which may raise anything and must not end a run."""
    caught = [
        f"{f.name}:{node.lineno}"
        for f in FILES
        if f.name != "callbacks.py"
        for node in ast.walk(ast.parse(f.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
    ]
    assert caught == []
