"""The commands of the studio: its server, and workers for one.

Run as: llm-installer studio
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from llm_installer.core.errors import UsageError
from llm_installer.core.outward import PUBLIC_ONLY
from llm_installer.planning.bounds import Filled, Number, Whole
from llm_installer.studio.plain import TOKEN
from llm_installer.studio.request import PORT, StudioRequest, check


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, type=Filled(), help="The address to listen on.")
@click.option("--port", default=PORT, show_default=True, type=Whole(0, 65535), help="0 takes any that is free.")
@click.option(
    "--public-url",
    default="",
    metavar="URL",
    help="The https address at which a proxy hands on the requests of workers elsewhere.",
)
@click.option(
    "--database",
    default="",
    metavar="URL",
    envvar="LLM_STUDIO_DATABASE",
    help="A Postgres database, as postgresql://user@host/name; otherwise a file.",
)
@click.option(
    "--lease",
    default=60.0,
    show_default=True,
    type=Number(1),
    help="Seconds of silence after which a worker loses its job.",
)
@click.option("--worker/--no-worker", default=True, show_default=True, help="Whether this machine trains jobs itself.")
@click.option(
    "--accounts", is_flag=True, help="People must sign in; always so where --host reaches beyond this machine."
)
@click.option(
    "--reset-password", default="", metavar="NAME", help="Print a link for a new password of an account, then exit."
)
@click.option(
    "--check", "checks", is_flag=True, help="Say whether its database and files are as they should be, then exit."
)
def studio(reset_password: str, checks: bool, **given: object) -> None:
    """Train in a web page: jobs that go on when the page is closed, and APIs to start and follow them."""
    from llm_installer.planning.settings import built

    if checks:
        return _check(str(given["database"]))
    request = built(StudioRequest, given)
    check(request)
    from llm_installer.ui.console import Console

    console = Console()
    if reset_password:
        from llm_installer.studio.access.starting import reset_link

        console.line(f"Choose a new password within an hour: {reset_link(request, reset_password)}")
        return
    os.environ[PUBLIC_ONLY] = "1"  # for what it starts: names of models come from others
    with console.waiting("Starting"):
        from llm_installer.studio.access.starting import secret_line
        from llm_installer.studio.story import opened
    with opened(request) as running:
        console.line(f"The studio is at {running.studio.address}")
        if running.first_link:
            console.line(
                f"Make the first account, within a day: {secret_line(running.first_link, running.studio.folder)}"
            )
        console.line("Ctrl-C ends it; a training then saves its work, and goes on when the studio is started again.")
        running.run()
    console.line("Stopped.")


def _check(database: str) -> None:
    """Say what is wrong; exit code 1 where anything is."""
    from llm_installer.cli.echo import echo
    from llm_installer.core.errors import InstallerError
    from llm_installer.studio.checking import checked

    found, sentence = checked(database)
    for one in found:
        echo(one)
    if found:
        raise InstallerError(sentence)
    echo(sentence)


@click.command()
@click.option("--server", required=True, metavar="URL", type=Filled(), help="The address of a studio.")
@click.option("--job", default="", metavar="ID", help="Do this job alone, then end.")
@click.option(
    "--token-file",
    default="",
    metavar="FILE",
    help=f"A file with the key or token that the studio wants; {TOKEN} in the environment is another way.",
)
@click.option("--embedded", is_flag=True, hidden=True)
def worker(server: str, job: str, token_file: str, embedded: bool) -> None:
    """Do the jobs of a studio on this machine, one after the other."""
    from llm_installer.cli.echo import echo
    from llm_installer.studio.plain import ENGINES
    from llm_installer.studio.worker.story import WorkerRequest, work

    os.environ[PUBLIC_ONLY] = "1"
    token = os.environ.pop(TOKEN, "")  # trainings have no use for it
    if token_file:
        token = _token_in(token_file)
    engines = ("local",) if embedded else ENGINES if job else ("worker",)
    work(WorkerRequest(server, job, token, engines, embedded), echo)


def _token_in(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise UsageError(f"--token-file {file} cannot be read; give a file that holds the key alone") from None
