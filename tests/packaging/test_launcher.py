"""The launcher: it sets up once, in the right order, and then is not noticed."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
SCRIPTS = ("llm-installer", "tests/run", ".ci/run")
TOOLCHAIN = ["pip", "install", "--no-deps", "pip==1.2.3", "setuptools==4.5.6"]
PACKAGES = ["pip", "install", "--no-build-isolation", "-c", "constraints.txt", "-e", "."]
TORCH = ["pip", "install", "--no-deps", "torch==9.9.9+cpu"]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("shell", [("dash",), ("bash", "--posix"), ("busybox", "sh")], ids=" ".join)
def test_every_script_is_posix_shell(script, shell):
    if not shutil.which(shell[0]):
        pytest.skip(f"{shell[0]} is not here")
    text = REPO / script
    assert text.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert text.stat().st_mode & 0o111
    checked = subprocess.run([*shell, "-n", str(text)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_first_start_sets_up_and_the_second_only_runs(checkout):
    first = checkout.start("list", STUB_CPU="configured")
    assert (first.returncode, json.loads(first.stdout)) == (0, ["list"])
    made, toolchain, query, torch, packages = checkout.take_calls()
    assert made == ["venv", str(checkout.root / ".venv")]
    assert (toolchain, torch, packages) == (TOOLCHAIN, TORCH, PACKAGES)
    assert query[1:4] == ["index", "versions", "torch"]
    assert "Setting up" in first.stderr and "only once" in first.stderr and first.stderr.endswith("Ready.\n")

    second = checkout.start("list")
    assert (second.returncode, second.stdout, second.stderr) == (0, first.stdout, "")
    assert checkout.take_calls() == []


def test_the_log_leaves_out_the_links_that_were_not_taken(checkout):
    checkout.start(STUB_CPU="configured")
    log = (checkout.root / ".venv" / "install.log").read_text(encoding="utf-8")
    assert log.count("Fine") == 3
    assert "Skipping link" not in log


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [""],
        ["two words", "", "it's", 'a "quote"', "$HOME", "`id`", "*", "back\\slash", "line\nbreak"],
        ["--help", "--", "-n"],
        ["gr\u00fc\u00df dich"],
    ],
)
def test_arguments_arrive_as_they_were_typed(checkout, arguments):
    checkout.start()
    assert json.loads(checkout.start(*arguments).stdout) == arguments


@pytest.mark.parametrize("code", [0, 2, 77])
def test_the_exit_code_is_the_programs(checkout, code):
    assert checkout.start(STUB_EXIT=str(code)).returncode == code
    assert checkout.start(STUB_EXIT=str(code)).returncode == code


def test_it_finds_its_folder_through_links(checkout, tmp_path):
    (tmp_path / "far away").mkdir()
    near = checkout.root / "near"
    near.symlink_to("llm-installer")
    far = tmp_path / "far away" / "llm"
    far.symlink_to("../a check out/near")
    assert checkout.start("x", command=far).returncode == 0
    assert checkout.take_calls()[0] == ["venv", str(checkout.root / ".venv")]


def test_set_up_only_stops_before_the_program(checkout):
    done = checkout.start("list", LLM_INSTALLER_SETUP_ONLY="1")
    assert (done.returncode, done.stdout) == (0, "")
    assert checkout.take_calls()[-1] == PACKAGES
    again = checkout.start("list", LLM_INSTALLER_SETUP_ONLY="1")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@pytest.mark.parametrize("changed", ["constraints.txt", "setup.py"])
def test_a_change_of_pins_updates_in_place(checkout, changed):
    checkout.start(STUB_CPU="configured")
    checkout.take_calls()
    with open(checkout.root / changed, "a", encoding="utf-8") as file:
        file.write("# changed\n")
    updated = checkout.start("list")
    assert (updated.returncode, json.loads(updated.stdout)) == (0, ["list"])
    assert checkout.take_calls() == [TOOLCHAIN, PACKAGES]
    assert checkout.start("list").stderr == ""


def test_a_new_torch_pin_brings_a_new_torch(checkout):
    checkout.start(STUB_CPU="configured")
    checkout.take_calls()
    pins = checkout.root / "constraints.txt"
    pins.write_text(pins.read_text(encoding="utf-8").replace("9.9.9", "9.8.0"), encoding="utf-8")
    checkout.start(STUB_CPU="configured")
    assert [*TORCH[:-1], "torch==9.8.0+cpu"] in checkout.take_calls()


def test_a_moved_checkout_is_installed_again(checkout):
    checkout.start()
    checkout.take_calls()
    checkout.root = checkout.root.rename(checkout.root.with_name("else where"))
    assert checkout.start().returncode == 0
    assert checkout.take_calls() == [TOOLCHAIN, PACKAGES]


def test_extras_are_added_and_stay(checkout):
    checkout.start(LLM_INSTALLER_EXTRAS="dev")
    assert checkout.take_calls()[-1][-1] == ".[dev]"
    checkout.start()
    checkout.start(LLM_INSTALLER_EXTRAS="dev")
    assert checkout.take_calls() == []
    checkout.start(LLM_INSTALLER_EXTRAS="gpu,dev")
    assert checkout.take_calls()[-1][-1] == ".[dev,gpu]"


def test_a_python_that_went_away_is_replaced(checkout):
    checkout.start()
    checkout.take_calls()
    python = checkout.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert checkout.start().returncode == 0
    assert checkout.take_calls()[0] == ["venv", str(checkout.root / ".venv")]


def test_a_venv_that_is_not_ours_is_left_alone(checkout):
    foreign = checkout.root / ".venv" / "bin" / "activate"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine", encoding="utf-8")
    refused = checkout.start()
    assert refused.returncode == 1
    assert "was not made by this command" in refused.stderr
    assert foreign.read_text(encoding="utf-8") == "mine"
