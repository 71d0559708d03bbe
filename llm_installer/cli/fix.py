"""Mend what is broken: the files of a model directory, CUDA, the program's own environment.

Run as: llm-installer fix [MODEL]
"""

from __future__ import annotations

import click

from llm_installer.cli.echo import echo
from llm_installer.cli.names import in_a_model, model_argument
from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.hints import program
from llm_installer.core.home import model_names, models_dir
from llm_installer.core.text import short_path
from llm_installer.install.doctor import Check


@click.command()
@model_argument(required=False)
@click.option("--reinstall", is_flag=True, help="Get model files again that are broken or missing; runs and lora stay.")
@click.option("--fix-cuda", is_flag=True, help="Install torch and bitsandbytes again where they cannot use the GPU.")
@click.option("--recreate-venv", is_flag=True, help="Make the program's own .venv again.")
def fix(model: str | None, reinstall: bool, fix_cuda: bool, recreate_venv: bool) -> None:
    """Mend MODEL, or all that are installed: scripts, links, half-done changes; then what the options say."""
    machine = fix_cuda or recreate_venv
    if model == "." and machine and not in_a_model():
        model = None  # as `fix . --fix-cuda` is written where the launcher lies
    if reinstall and not model:
        raise UsageError(f"Say which model's files to get again, for example: {program()} fix tiny --reinstall")
    found = _models([model] if model else [] if machine else model_names(), reinstall)
    if fix_cuda:
        from llm_installer.install.environment import fix_cuda as mend

        found.append(mend(echo))
    if not model and not machine:
        from llm_installer.install.doctor import check_machine

        if not found:
            found.append(Check("models", True, f"none are installed in {short_path(models_dir())}"))
        found += [check for check in check_machine() if check.ok is not True]
    _show(found)
    if recreate_venv:
        from llm_installer.install.environment import recreate_venv as again

        again()


def _models(names: list[str], reinstall: bool) -> list[Check]:
    """What was found in these models; one that cannot be mended hides no other."""
    from llm_installer.install.fix import fix_model

    found: list[Check] = []
    for name in names:
        try:
            of_this = fix_model(name, reinstall, echo)
        except InstallerError as error:
            if len(names) == 1:
                raise
            of_this = [Check("", False, str(error))]
        found += [Check(f"{name}: {each.name}" if each.name else name, each.ok, each.detail, each.fix)
                  for each in of_this]  # fmt: skip
    return found


def _show(found: list[Check]) -> None:
    from llm_installer.ui.console import Console
    from llm_installer.ui.models import Checks

    Console().show(Checks(found))
    if any(each.ok is False for each in found):
        raise SystemExit(1)
