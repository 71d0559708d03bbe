"""The pages of accounts in a real browser: by clicks, under their policy, and none is wider than a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.studio.people import PASSWORD, PUBLIC, World, running
from tests.studio.test_pages_browser import AXE, TOO_WIDE, browser, playwright
from tests.tiers import minutes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "playwright"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="Chromium is not installed"),
]
SHOTS = os.environ.get("STUDIO_SHOTS", "")
"""A folder for pictures of every page."""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(60_000)
    found, wrong = context.new_page(), list[str]()
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    yield found
    context.close()
    assert [one for one in wrong if "401" not in one and "403" not in one] == []


def looked_at(page: Page, name: str) -> None:
    """Nothing is too wide, and nobody is kept out by how it looks."""
    for width in (320, 390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(TOO_WIDE) == [], (name, width)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            if SHOTS and width != 320:
                page.screenshot(path=f"{SHOTS}/{name}-{width}-{scheme}.png", full_page=True)
            if AXE.is_file():
                page.evaluate(f"() => {{ {AXE.read_text(encoding='utf-8')} }}")
                found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
                serious = [(one["id"], one["nodes"][0]["html"]) for one in found
                           if one["impact"] in ("serious", "critical")]  # fmt: skip
                assert serious == [], name
    page.set_viewport_size({"width": 1280, "height": 800})


def test_the_story_of_an_account(llm_home: Path, page: Page) -> None:
    with running() as world:
        some_history(world)
        page.goto(f"{world.base}/runs")
        looked_at(page, "sign-in")
        page.fill("#name", "root")
        page.fill("#password", "wrong number")
        page.click("button.main")
        page.wait_for_selector(".banner.wrong")
        looked_at(page, "sign-in-wrong")
        page.fill("#password", PASSWORD.format("root"))
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs")
        page.click("nav >> text=Account")
        looked_at(page, "account")
        page.fill("#key-name", "nightly script")
        page.select_option("#scope", "train")
        page.click("text=Make a key")
        key = page.inner_text(".once > code")
        looked_at(page, "account-key")
        with world.with_key(key) as program:
            assert program.get("/api/jobs").status_code == 200
        page.click(".tabs >> text=People")
        looked_at(page, "people")
        page.click("text=Make a link")
        link = page.inner_text(".once > code")
        looked_at(page, "people-link")
        page.click(".tabs >> text=Audit log")
        looked_at(page, "audit")
        page.click(".tabs >> text=Account")
        page.click('[aria-label="Revoke nightly script"]')
        page.wait_for_selector('[aria-label="Revoke nightly script"]', state="detached")
        page.click("text=Sign out >> nth=0")
        page.wait_for_url("**/sign-in")
        page.goto(link.replace(PUBLIC, world.base))  # there is no such host here
        looked_at(page, "invite")
        page.fill("#name", "newcomer")
        page.fill("#password", "a sentence of her own")
        page.fill("#again", "a sentence of her own")
        page.keyboard.press("Enter")
        page.wait_for_url("**/models")
        page.goto(f"{world.base}/people")
        looked_at(page, "refused") if SHOTS else None


@minutes
def test_a_form_with_a_file_and_one_by_htmx_carry_the_token(llm_home: Path, page: Page) -> None:
    """A member gives a file, as the page sends it."""
    from llm_installer.install.installer import install

    install("tiny", say=lambda text: None)
    with running() as world:
        page.goto(f"{world.base}/sign-in")
        page.fill("#name", "ada")
        page.fill("#password", PASSWORD.format("ada"))
        page.keyboard.press("Enter")
        page.wait_for_url("**/models")
        page.goto(f"{world.base}/new")
        files = {"name": "qa.csv", "mimeType": "text/csv", "buffer": b"input,output\n" + b"what,that\n" * 20}
        page.set_input_files("#file", files)  # type: ignore[arg-type]
        page.click("#go")
        page.wait_for_url("**/new/file-*")
        page.click("#start")
        page.wait_for_url("**/runs/*")
        job = page.url.rpartition("/")[2]
        assert world.people["bob"].get(f"/runs/{job}").status_code == 404
        page.click("text=Cancel")
        page.wait_for_selector("text=cancelled")
        assert world.people["ada"].get(f"/api/jobs/{job}").json()["state"] == "cancelled"


def some_history(world: World) -> None:
    """So that the pages have something to show."""
    ada = world.people["ada"]
    job = ada.job(ada.upload(name="questions-of-our-customers.csv"))
    ada.post(f"/runs/{job}/cancel")
    world.people["bob"].key("read")
    world.people["vic"].post(f"/runs/{job}/again")
    world.signed_in("ada", "wrong number")
    world.people["root"].key("work")
