"""The page that says where things lie, what this machine has, and which versions run."""

from __future__ import annotations

import os
import platform
import shutil
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Request, Response

from llm_installer.core.hardware import memory_bytes, usable_cores
from llm_installer.core.home import cache_dir, models_dir
from llm_installer.core.text import size, without_password
from llm_installer.core.version import __version__
from llm_installer.studio.access.rights import ADMINISTER
from llm_installer.studio.access.who import WHO
from llm_installer.studio.context import Studio
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.pages.prices import keep_prices, read_prices

SAVED = "The prices are saved. Every plan counts with them from now on."
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "fastapi", "sqlalchemy")


def router_of(studio: Studio) -> APIRouter:
    """The routes of this page."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)

    @router.get("/settings")
    def settings(saved: str = "") -> Response:
        free, total = memory_bytes()
        places = [
            ("Models and their runs", str(models_dir())),
            ("Uploads and jobs", str(studio.folder)),
            ("Database", without_password(studio.settings.database) or str(studio.folder / "studio.sqlite3")),
            ("Caches, safe to delete", str(cache_dir())),
            ("Address", studio.base),
        ]
        machine = [
            ("System", f"{platform.system()} {platform.release()}"),
            ("Cores", str(usable_cores())),
            ("Memory", f"{size(free)} of {size(total)} free"),
            ("Disk", f"{size(shutil.disk_usage(studio.folder).free)} free"),
            ("Process", str(os.getpid())),
        ]
        if (who := WHO.get()) and not who.may(ADMINISTER):
            places, machine = [], []
        versions = [("LLM Installer", __version__), ("Python", platform.python_version())]
        versions += [(name, _version(name)) for name in PACKAGES]
        values = {"places": places, "machine": machine, "versions": versions, "prices": read_prices(studio.folder)}
        return drawn("settings.html", here="Settings", said=SAVED if saved else "", **values)

    @router.post("/settings/prices")
    async def prices(request: Request) -> Response:
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        keep_prices(studio.folder, form, date.today())
        return to("/settings?saved=prices")

    return router


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
