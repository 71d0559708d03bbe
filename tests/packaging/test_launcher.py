"""The launcher: it sets up once, in the right order, and then is not noticed."""

import contextlib
import json
import os
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


ARGUMENTS = (
    [],
    [""],
    ["two words", "", "it's", 'a "quote"', "$HOME", "`id`", "*", "back\\slash", "line\nbreak"],
    ["--help", "--", "-n"],
    ["gr\u00fc\u00df dich"],
)


def test_arguments_arrive_as_they_were_typed(checkout):
    checkout.start()
    for arguments in ARGUMENTS:
        assert json.loads(checkout.start(*arguments).stdout) == arguments


def test_the_exit_code_is_the_programs(checkout):
    for code in (77, 0, 2, 77):  # the first of them after a set-up
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


def test_a_change_of_pins_updates_in_place_and_a_new_torch_pin_brings_a_new_torch(checkout):
    checkout.start(STUB_CPU="configured")
    checkout.take_calls()
    for changed in ("constraints.txt", "setup.py"):
        with open(checkout.root / changed, "a", encoding="utf-8") as file:
            file.write("# changed\n")
        updated = checkout.start("list")
        assert (updated.returncode, json.loads(updated.stdout)) == (0, ["list"])
        assert checkout.take_calls() == [TOOLCHAIN, PACKAGES], changed
        assert checkout.start("list").stderr == ""
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


def link_of(checkout, folder):
    return f"mkdir -p '{folder}' && ln -s '{checkout.root}/llm-installer' '{folder}'"


def test_after_the_first_set_up_a_link_is_offered_and_never_made_unasked(checkout, tmp_path):
    home = tmp_path / "it's home"
    home.mkdir()
    folder = str(home / ".local" / "bin").replace("'", "'\\''")
    first = checkout.start("list", HOME=str(home))
    said = first.stderr.splitlines()[-1]
    bin = home / ".local" / "bin"
    assert said == f"To call it as llm-installer from any folder, once {bin} is on PATH: {link_of(checkout, folder)}"
    assert list(home.iterdir()) == [] and checkout.start("list", HOME=str(home)).stderr == ""
    subprocess.run(["sh", "-c", said.partition(" PATH: ")[2]], check=True)
    linked = checkout.start("list", command=home / ".local" / "bin" / "llm-installer")
    assert (linked.returncode, linked.stdout, linked.stderr) == (0, first.stdout, "")


@pytest.mark.parametrize("where", ["on PATH", "set-up only", "no home"])
def test_no_link_is_offered_where_it_is_of_no_use(checkout, tmp_path, where):
    settings = {} if where == "no home" else {"HOME": str(tmp_path)}
    if where == "on PATH":
        checkout.tool("llm-installer", "")
    if where == "set-up only":
        settings["LLM_INSTALLER_SETUP_ONLY"] = "1"
    assert checkout.start(**settings).stderr.endswith("Ready.\n")


@pytest.mark.parametrize(("answer", "linked"), [("y", True), ("", False), ("n", False)])
def test_on_a_terminal_the_link_is_asked_for(checkout, tmp_path, answer, linked):
    (checkout.bin / "ln").symlink_to(shutil.which("ln"))
    home = tmp_path / "home"
    said = on_terminal(checkout, f"{answer}\n", HOME=str(home), PATH=f"{checkout.bin}:{home}/.local/bin")
    assert f"Put a link into {home}/.local/bin" in said
    found = home / ".local" / "bin" / "llm-installer"
    assert found.is_symlink() is linked and ("Linked; now type llm-installer." in said) is linked
    assert ("ln -s" in said) is not linked


def on_terminal(checkout, typed, **settings):
    """What a set-up says on a terminal, where this is typed in the end."""
    mine, its = os.openpty()
    process = checkout.open(stdin=its, stderr=its, **settings)
    os.close(its)
    os.write(mine, typed.encode())
    said = b""
    with contextlib.suppress(OSError):  # which is how a terminal ends on Linux
        while piece := os.read(mine, 4096):
            said += piece
    assert process.wait(60) == 0
    os.close(mine)
    return said.decode().replace("\r\n", "\n")


def test_a_new_venv_is_made_when_the_program_asks_for_it(checkout):
    checkout.start(LLM_INSTALLER_EXTRAS="dev", STUB_CPU="configured")
    checkout.take_calls()
    again = checkout.start(LLM_INSTALLER_RECREATE="1", LLM_INSTALLER_SETUP_ONLY="1", STUB_CPU="configured")
    assert (again.returncode, again.stdout) == (0, "") and "Setting up" in again.stderr
    made, toolchain, _, torch, packages = checkout.take_calls()
    assert made == ["venv", str(checkout.root / ".venv")] and (toolchain, torch) == (TOOLCHAIN, TORCH)
    assert packages[-1] == ".[dev]", "the extras stay"
    assert checkout.start("list").stderr == ""


def test_a_program_that_cannot_start_is_made_again_from_outside(checkout):
    """One that can is asked first: it looks whether a training needs the environment."""
    checkout.start(STUB_CPU="configured")
    checkout.take_calls()
    asked = ["fix", "tiny", "--recreate-venv"]
    assert json.loads(checkout.start(*asked).stdout) == asked and checkout.take_calls() == []
    again = checkout.start(*asked, STUB_CPU="configured", STUB_EXIT="1")
    assert (again.returncode, again.stdout) == (0, "")
    assert checkout.take_calls()[0][0] == "venv"
    assert json.loads(checkout.start("fix", "tiny").stdout) == ["fix", "tiny"]
    assert checkout.take_calls() == []
