"""The rooms of the house: what may import what, no circles, nothing long, and no torch where nobody trains."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "llm_installer"

ROOMS = (
    "core", "core/run", "planning", "data/reading", "data/formats", "data/store", "data/encoding", "data",
    "models", "distributed", "training/fast", "training/reporters",
    "inference", "training", "install", "runs", "export", "evals", "server", "studio", "ui", "train_lora", "api", "cli",
)  # fmt: skip
"""From below to above: a room imports itself and those before it, and TYPE_CHECKING is no excuse."""
FORBIDDEN = dict.fromkeys(("install", "runs", "inference", "export", "evals", "server", "studio"), "training")
"""Rooms that may not import another, though it lies below them."""
DRAWING = ("ui", "cli", "api")
"""Rooms that may import ui; training/reporters draw by themselves."""
TORCH = ("models", "distributed", "training", "inference", "export", "evals", "server")
"""Rooms whose modules may import torch and what brings it when they are loaded."""
HEAVY = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")
MANY_PARAMETERS: dict[str, str] = {}
"""Functions with more than 6 parameters, and why."""
MOST_ANY = 20


def load_map() -> ModuleType:
    spec = importlib.util.spec_from_file_location("map", ROOT / "tools" / "map.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAP = load_map()
MODULES: dict[str, Path] = MAP.modules()


@cache
def graph() -> dict[str, set[str]]:
    """What each module imports; read by whoever runs these tests, not by whoever collects them."""
    found: dict[str, set[str]] = MAP.imports(MODULES)
    return found


@cache
def trees() -> dict[str, ast.Module]:
    """The parsed modules."""
    return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}


def room_of(module: str) -> str:
    """The innermost room of a module."""
    parts = module.split(".")[1:]
    paths = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((path for path in paths if path in ROOMS), "")


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{module}.{node.name}", node


def imports_at_load(tree: ast.Module) -> set[str]:
    """Top names of the packages that loading a module imports."""
    found: set[str] = set()
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, (ast.If, ast.Try)) and "TYPE_CHECKING" not in ast.dump(getattr(node, "test", node)):
            waiting += [*node.body, *node.orelse]
    return found


def imported(tree: ast.Module) -> set[str]:
    """Top names of the packages that a module imports anywhere; relative imports are not used here."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes)
    names = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes]
    return {name.partition(".")[0] for name in names}


def test_every_module_is_in_a_room() -> None:
    homeless = [
        name for name in MODULES if not room_of(name) and name.rpartition(".")[2] not in ("llm_installer", "__main__")
    ]
    assert homeless == []
    assert len(MAP.top_modules(MODULES)) <= 3


def test_no_import_points_upward() -> None:
    wrong: list[str] = []
    for module in sorted(MODULES):
        own = room_of(module)
        if not own:  # the package itself and python -m llm_installer
            continue
        for target in sorted(graph()[module] - {"llm_installer"}):
            room = room_of(target)
            if ROOMS.index(room) > ROOMS.index(own):
                wrong.append(f"{module} imports {target}, whose room lies above its own")
            if FORBIDDEN.get(own) == room.partition("/")[0]:
                wrong.append(f"{module} imports {target}: {own}/ may not know training/")
            if room == "ui" and own not in DRAWING:
                wrong.append(f"{module} imports {target}: stories return values, cli draws them")
    assert wrong == []


def test_nothing_of_the_package_imports_what_lies_beside_it() -> None:
    for module, tree in trees().items():
        assert not imported(tree) & {"handlers", "templates", "tests", "tools", "benchmarks", "examples"}, module


def test_there_are_no_circles_and_few_arrows() -> None:
    rooms = MAP.rooms(graph())
    assert MAP.circles(graph()) == [], "files that import each other"
    assert MAP.circles(rooms) == [], "rooms that import each other"
    assert sum(len(targets) for targets in rooms.values()) <= 90


def test_no_torch_outside_of_the_rooms_that_compute() -> None:
    found: dict[str, set[str]] = {}
    for module in sorted(name for name in MODULES if not room_of(name).startswith(TORCH)):
        allowed = {"transformers"} if room_of(module) == "data/encoding" else set()  # tokenizers; it brings no torch
        if heavy := imports_at_load(trees()[module]) & set(HEAVY) - allowed:
            found[module] = heavy
    assert found == {}


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
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in MODULES.items()}
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    assert {name: n for name, n in lines.items() if n > 250} == {}
    assert {name: n for name, n in lengths.items() if n > 50} == {}
    assert median(lengths.values()) <= 7 and quantiles(lengths.values(), n=10)[-1] <= 18


def test_few_parameters() -> None:
    """Ruff's PLR0913 says the same; here is where an exception says why it is one."""
    for name, node in functions():
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([argument for argument in given if argument.arg not in ("self", "cls")])
        assert count <= 6 or name in MANY_PARAMETERS, f"{name} has {count} parameters"


def annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) or (isinstance(node, ast.arg) and node.annotation):
            yield node.annotation
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns:
            yield node.returns


def anys(module: str) -> int:
    return sum(
        isinstance(node, ast.Name) and node.id == "Any"
        for each in annotations(trees()[module])
        for node in ast.walk(each)
    )


def test_types_say_what_things_are() -> None:
    found = {module: count for module in MODULES if (count := anys(module))}
    assert {module for module in found if room_of(module) == "planning"} == set()
    assert sum(found.values()) <= MOST_ANY, found


def test_nothing_catches_everything() -> None:
    """But for the one place that calls code of the user, which may raise anything and must not end a run."""
    caught = [
        f"{module}:{node.lineno}"
        for module, tree in trees().items()
        if not module.endswith(".callbacks")
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
    ]
    assert caught == []
