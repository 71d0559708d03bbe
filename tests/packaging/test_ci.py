"""The CI script: it runs everything, and one failure among its checks is a failure."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
CHECKS = {
    "tests": "tests/run",
    "slow": "slow_tests",
    "lint": ".venv/bin/ruff check .",
    "format": ".venv/bin/ruff format --check .",
    "types": ".venv/bin/mypy --strict llm_installer handlers tools",
}
# A command that notes its arguments, and ends with the code that its environment names for them.
TESTS = 'echo "tests $*" >>calls; if [ $# = 0 ]; then exit "${tests:-0}"; else exit "${slow:-0}"; fi'
RUFF = 'echo "ruff $*" >>calls; if [ "$1" = check ]; then exit "${lint:-0}"; else exit "${format:-0}"; fi'
MYPY = 'echo "mypy $*" >>calls; exit "${types:-0}"'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    shutil.copy2(REPO / ".ci" / "run", tmp_path / ".ci" / "run")
    stand_ins = {
        "tests/run": TESTS,
        ".venv/bin/ruff": RUFF,
        ".venv/bin/mypy": MYPY,
        "bin/chromium": "",
        "bin/apt-get": "",
    }
    for name, script in stand_ins.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/bin/sh\n[ "$CI" = true ] || exit 99\n{script}\n', encoding="utf-8")
        file.chmod(0o755)
    return tmp_path


def run(tree: Path, **codes: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(tree / ".ci" / "run")]
    environment = {"PATH": f"{tree}/bin:{os.environ['PATH']}", **codes}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("codes", [{}, {"slow": "5"}], ids=["all well", "no slow tests"])
def test_all_well_is_zero(tree, codes):
    done = run(tree, **codes)
    assert (done.returncode, "Failed" in done.stdout) == (0, False), done.stdout
    assert (tree / "calls").read_text(encoding="utf-8").splitlines() == [
        "tests ",
        "tests -m slow and not cuda",
        "ruff check .",
        "ruff format --check .",
        "mypy --strict llm_installer handlers tools",
    ]


@pytest.mark.parametrize(("check", "code"), [*((check, "1") for check in CHECKS), ("tests", "5"), ("slow", "4")])
def test_one_failure_is_named_and_the_rest_still_runs(tree, check, code):
    done = run(tree, **{check: code})
    assert done.returncode == 1
    assert done.stdout.endswith(f"Failed:\n  {CHECKS[check]}\n")
    assert len((tree / "calls").read_text(encoding="utf-8").splitlines()) == len(CHECKS)
