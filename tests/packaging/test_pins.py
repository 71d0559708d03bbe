"""What the package says it needs, against what it imports and what is pinned."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
OPTIONAL = {"liger-kernel": "gpu", "wandb": "wandb", "mlflow": "mlflow", "mlflow-skinny": "mlflow"}
PIN = re.compile(r'([A-Za-z0-9_.-]+)==([0-9][0-9a-z.]*)( ; python_version (<|>=) "3\.11")?')


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, list[str]]:
    """The requirements in setup.py, canonical names; the runtime's under the empty name."""
    found: dict[str, list[str]] = {}
    for node in ast.parse((REPO / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id in ("REQUIRES", "EXTRAS"):
            value = ast.literal_eval(node.value)
            found.update(value if isinstance(value, dict) else {"": value})
    return {extra: [canonical(re.match(r"[\w.-]+", text)[0]) for text in texts] for extra, texts in found.items()}


def imported() -> dict[str, Path]:
    """Every top-level module that the package imports, anywhere in a file, and one file that does."""
    found: dict[str, Path] = {}
    for file in [*(REPO / "llm_installer").rglob("*.py"), *(REPO / "handlers").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            found.update({name.partition(".")[0]: file for name in names})
    return found


def pins() -> list[tuple[str, str, str]]:
    """(canonical name, version, marker) of each line in constraints.txt."""
    lines = (REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
    matched = [PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(matched), "a line is not name==version, with the one marker that is used or none"
    return [(canonical(match[1]), match[2], match[4] or "") for match in matched]


def test_every_import_is_declared():
    home = packages_distributions()
    known = {name for names in declared().values() for name in names}
    own = {"llm_installer", *sys.stdlib_module_names, "tomllib", "triton"}  # torch for NVIDIA GPUs brings triton
    for module, file in imported().items():
        if module not in own:
            distributions = {canonical(name) for name in home.get(module, [module])}
            assert distributions & known, f"{file} imports {module}, which setup.py does not ask for"


def test_every_requirement_is_pinned_once_for_each_python():
    marks: dict[str, set[str]] = {}
    for name, _, marker in pins():
        assert marker not in marks.setdefault(name, set()), f"{name} is pinned twice"
        marks[name].add(marker)
    assert all(found == {""} or "" not in found for found in marks.values())
    for name in [*declared()[""], *declared()["dev"], *declared()["wandb"], *declared()["mlflow"], "pip", "setuptools"]:
        assert marks.get(name) in ({""}, {"<", ">="}), f"{name} has no pin for some Python"


def test_the_launcher_can_read_its_pins():
    """It takes these three with sed, so they have one plain line each; PyTorch's build is chosen later."""
    plain = [name for name, version, marker in pins() if not marker]
    assert {"torch", "pip", "setuptools"} <= set(plain)


def test_pins_are_sorted_and_all_lower_bounds_are_met():
    names = [name for name, _, _ in pins()]
    assert names == sorted(names)
    requirements = pytest.importorskip("packaging.requirements")
    source = (REPO / "setup.py").read_text(encoding="utf-8")
    bounds = [requirements.Requirement(text) for text in re.findall(r'"([\w.-]+>=[0-9][0-9.]*)"', source)]
    assert len(bounds) > 15
    for bound in bounds:
        for name, version, _ in pins():
            assert name != canonical(bound.name) or bound.specifier.contains(version), f"{bound} but {name} {version}"
