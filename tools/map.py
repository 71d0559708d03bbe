"""The map of the house: its rooms, what imports what, and circles. TYPE_CHECKING and function-level imports count.

Run as: python tools/map.py [--files]   (with --files each file and what it says of itself)

A room is a folder of the package, with all folders below it; a module at the top of the package is a room of its own.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "llm_installer"
Graph = dict[str, set[str]]


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(files: Mapping[str, Path]) -> Graph:
    """What each module imports of the others, wherever in the file it does so."""
    graph: Graph = {name: set() for name in files}
    for name, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                graph[name] |= {full if full in files else node.module for full in whole} & files.keys()
            elif isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & files.keys()
        graph[name].discard(name)
    return graph


def room(module: str, depth: int = 1) -> str:
    """The room of a module: the first `depth` folders below the package, else the module itself."""
    parts = module.split(".")[1:]
    return "/".join(parts[:depth]) or "__init__"


def rooms(graph: Graph) -> Graph:
    """The same imports between rooms."""
    found: Graph = defaultdict(set)
    for name, targets in graph.items():
        found[room(name)] |= {room(target) for target in targets} - {room(name)}
    return dict(found)


def circles(graph: Graph) -> list[list[str]]:
    """Groups of names that all reach each other, by Tarjan's algorithm (SIAM J. Comput. 1, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def top_modules(files: Iterable[str]) -> list[str]:
    """Modules that lie in no room but at the top of the package."""
    return sorted(name for name in files if name.count(".") <= 1 and not any(f.startswith(f"{name}.") for f in files))


def about(file: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def main() -> None:
    """Print the map."""
    files = modules()
    graph = imports(files)
    drawn = rooms(graph)
    members: dict[str, list[str]] = defaultdict(list)
    for name in files:
        members[room(name)].append(name)
    order = sorted(drawn, key=lambda name: (len(_below(drawn, name)), name))
    for name in order:
        lines = sum(len(files[module].read_text(encoding="utf-8").splitlines()) for module in members[name])
        print(f"{name:14} {len(members[name]):3} files {lines:6,} lines  -> {', '.join(sorted(drawn[name])) or '-'}")
        for module in members[name] if "--files" in sys.argv else ():
            print(f"    {files[module].relative_to(PACKAGE)!s:40} {about(files[module])}")
    arrows = sum(len(targets) for targets in drawn.values())
    print(f"\n{len(drawn)} rooms, {len(files)} files, {arrows} arrows between rooms")
    print(f"top of the package: {', '.join(n.partition('.')[2] or '__init__' for n in top_modules(files))}")
    for kind, found in (("files", circles(graph)), ("rooms", circles(drawn))):
        print(f"circles of {kind}: {len(found)}")
        for group in found:
            print(f"    {', '.join(group)}")


def _below(graph: Graph, name: str) -> set[str]:
    """Everything that a name reaches."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for target in graph[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


if __name__ == "__main__":
    main()
