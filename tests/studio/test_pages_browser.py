"""The pages in a real browser: nothing breaks the policy, nothing is wider than a phone, and the whole story works
by the keyboard alone."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llm_installer.core.paths import ModelDir
from llm_installer.studio.request import StudioRequest
from llm_installer.studio.states import FAILED, TRAINING
from llm_installer.studio.store import files, jobs
from llm_installer.studio.store.events import NewEvent
from llm_installer.studio.store.jobs import NewJob
from llm_installer.studio.story import Running
from llm_installer.studio.story import opened as studio_opened
from tests.commands import command
from tests.studio.test_pages import EVIL, RUN, Open, folder, opened_studio
from tests.studio.test_pages_hub import fetched
from tests.tiers import minutes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need Playwright")
__all__ = ["folder", "opened_studio"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(os.environ.get("AXE_JS", Path(__file__).parents[2] / "build" / "axe-core" / "package" / "axe.min.js"))
PATIENCE = 180_000  # milliseconds
TOO_WIDE = """document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("main *")]
    .filter((one) => one.getBoundingClientRect().right > innerWidth && !one.closest(".scroll"))
    .map((one) => one.outerHTML.slice(0, 99))"""
"""What reaches beyond the window, where one has to scroll sideways."""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A window in which nothing may go wrong, and that asks nobody but its own server."""
    expected = ["Not Found", "400"]
    if request.function is test_an_open_page_says_when_the_studio_is_away_and_comes_back:
        expected += ["ERR_CONNECTION_REFUSED", "Failed to fetch"]
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    found, wrong = context.new_page(), list[str]()
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    found.on("dialog", lambda dialog: wrong.append(dialog.message))
    found.on(
        "request",
        lambda sent: wrong.append(sent.url) if not sent.url.startswith(("http://127.0.0.1:", "data:")) else None,
    )
    yield found
    context.close()
    assert [one for one in wrong if not any(words in one for words in expected)] == []


def test_no_page_breaks_its_policy_or_is_wider_than_a_phone(opened_studio: Open, folder: ModelDir, page: Page) -> None:
    name = EVIL.replace("/", "")
    file = opened_studio.file(name)
    failed = opened_studio.job(FAILED, file=file, error=EVIL + "x" * 300, suffix=EVIL)
    live = opened_studio.job(TRAINING, file=file, run=RUN)
    paths = ["/models", "/new", "/runs", "/chat", "/settings", "/runs/nothing"]
    paths += [f"/runs/{failed.id}", f"/runs/{live.id}", f"/compare?run={live.id}&run=tiny/{RUN}"]
    for path in paths:
        page.goto(f"{str(opened_studio.http.base_url).rstrip('/')}{path}")
        if "/runs/" in path and path.endswith(live.id):
            page.wait_for_selector(".u-legend")
            page.wait_for_selector(".report .text")
            page.wait_for_selector('#loss[data-count="8"]')
        for width in (320, 390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(TOO_WIDE) == [], (path, width)
        assert page.evaluate("window.hurt") is None
        if not AXE.is_file():
            continue
        page.evaluate(f"() => {{ {AXE.read_text(encoding='utf-8')} }}")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            serious = [
                (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
            ]
            assert serious == [], (path, scheme)


def test_news_take_nothing_out_of_the_hand(opened_studio: Open, folder: ModelDir, page: Page) -> None:
    """What is pressed by keyboard keeps the focus when the page gets news; so does a curve that begins."""
    job = opened_studio.job(TRAINING)
    page.goto(f"{str(opened_studio.http.base_url).rstrip('/')}/runs/{job.id}")
    assert page.is_hidden("#loss") and "loss before training" in page.inner_text("#now")
    page.focus("button >> text=Cancel")
    until(page, "!!document.querySelector('#live')?._htmx?.sse?.reader")
    with opened_studio.studio.store.writing() as session:
        found = jobs.locked(session, job.id)
        found.step, found.steps, found.progress = 3, 9, 33
    opened_studio.tell(job, *(NewEvent("metrics", {"kind": "step", "step": n, "loss": 1.0}) for n in range(3)))
    page.wait_for_selector("#loss[data-count='3']")
    page.wait_for_selector("#now >> text=3 of 9")
    assert page.is_visible("#loss") and "loss before training" not in page.inner_text("#now")
    assert page.evaluate("document.activeElement.textContent") == "Cancel"


def test_news_come_also_where_what_reads_them_is_late(opened_studio: Open, folder: ModelDir, page: Page) -> None:
    def late(route: Route) -> None:
        page.wait_for_timeout(500)  # the network is slow for this file
        route.continue_()

    page.route("**/hx-sse-*.js", late)
    job = opened_studio.job(TRAINING)
    with page.expect_response("**/live?*") as heard:
        page.goto(f"{str(opened_studio.http.base_url).rstrip('/')}/runs/{job.id}")
    assert heard.value.status == 200


HIDDEN = """let shown = false;
    Object.defineProperty(document, "hidden", {get: () => !shown});
    window.show = (now) => { shown = now; document.dispatchEvent(new Event("visibilitychange")); };"""
"""A page that is opened in the background, until it is shown."""


def test_a_hidden_page_holds_no_stream_and_wakes_when_it_is_shown(
    opened_studio: Open, folder: ModelDir, page: Page
) -> None:
    """Hidden from the beginning, hidden later, and hidden again while it comes back."""
    job, steps = opened_studio.job(TRAINING), iter(range(9))
    page.add_init_script(HIDDEN)
    page.goto(f"{str(opened_studio.http.base_url).rstrip('/')}/runs/{job.id}")
    sleeps = "(({sse}) => sse && !sse.reader)(document.querySelector('#live')?._htmx ?? {})"
    for count, hide in ((3, ""), (6, "show(false)"), (9, "show(false); show(true); show(false)")):
        page.evaluate(hide)
        until(page, sleeps)
        opened_studio.tell(
            job, *(NewEvent("metrics", {"kind": "step", "step": next(steps), "loss": 1.0}) for _ in "abc")
        )
        assert page.locator(f"#loss[data-count='{count}']").count() == 0
        page.evaluate("show(true)")
        page.wait_for_selector(f"#loss[data-count='{count}']")


def test_a_dataset_that_is_there_becomes_a_file_by_itself(opened_studio: Open, folder: ModelDir, page: Page) -> None:
    fetched(opened_studio, "org/answers", b'{"prompt": "q", "completion": "a"}\n')
    page.goto(f"{str(opened_studio.http.base_url).rstrip('/')}/new/hub?dataset=org/answers&model=tiny")
    page.wait_for_url("**/new/file-*?model=tiny")
    with opened_studio.studio.store.reading() as session:
        assert [one.name for one in files.listed(session)] == ["org_answers.jsonl"]


def until(page: Page, so: str) -> None:
    """Wait until an expression is true; the driver's own way to wait needs what the policy of the pages forbids."""
    ends = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(so):
        assert time.monotonic() < ends, so
        page.wait_for_timeout(50)


@pytest.mark.slow
def test_what_stands_above_a_plan_follows_it(opened_studio: Open, folder: ModelDir, page: Page) -> None:
    """Another share for validation is seen in the figures of the file at once."""
    file = opened_studio.file("colours.csv", rows())
    asked = list[str]()
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(f"{str(opened_studio.http.base_url).rstrip('/')}/new/{file.id}?model=tiny&epochs=abc")
    page.wait_for_selector("#data .figures")
    page.fill("#v-max_examples", "10")
    page.click("button >> text=Plan again")
    until(page, "document.querySelector('#data .figures dd')?.textContent === '59'")
    until(page, "document.querySelector('#data .figures div:nth-child(2) dd').textContent === '9'")
    assert any("/data?" in url and "max_examples=10" in url for url in asked)


@pytest.mark.slow
def test_a_training_is_started_by_the_first_press(opened_studio: Open, folder: ModelDir, page: Page) -> None:
    """The form of the plan is sent once, also where buttons in it ask for another plan."""
    file = opened_studio.file("colours.csv", rows())
    page.goto(f"{str(opened_studio.http.base_url).rstrip('/')}/new/{file.id}?model=tiny")
    page.wait_for_selector("#values button.main", timeout=25_000)
    page.evaluate(
        "addEventListener('submit', (event) => { event.preventDefault(); window.sent = (window.sent ?? 0) + 1; })"
    )
    page.click("#values button.main >> text=Start", timeout=5_000)
    until(page, "document.querySelector('#values button.main').disabled")
    page.evaluate("document.querySelector('#values button.main').click()")
    assert page.evaluate("window.sent") == 1


def rows() -> bytes:
    """A table as the guide of a trainer asks for it: 60 questions, one without an answer."""
    out, colours = io.StringIO(), ("red", "blue", "green", "yellow")
    table = csv.writer(out)
    table.writerow(["input", "output"])
    for n in range(60):
        table.writerow([f"What is the colour of thing {n}?", "" if n == 7 else f"Thing {n} is {colours[n % 4]}."])
    return out.getvalue().encode()


@pytest.fixture
def address(llm_home: Path) -> Iterator[str]:
    """A studio with its worker, as it is started by hand, and nothing installed yet."""
    with studio_opened(StudioRequest(port=0)) as running:
        thread = threading.Thread(target=running.run)
        thread.start()
        yield running.studio.address
        running.stop()
        thread.join(180)
        assert not thread.is_alive()


class Clicks:
    """A person with a mouse."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, selector: str) -> None:
        self.page.locator(selector).first.click()

    def write(self, selector: str, text: str) -> None:
        self.page.locator(selector).first.fill(text)

    def give(self, selector: str, file: Path) -> None:
        self.page.locator(selector).set_input_files(str(file))


class Keys(Clicks):
    """A person without one."""

    def press(self, selector: str) -> None:
        reach(self.page, selector)
        self.page.keyboard.press("Enter")

    def write(self, selector: str, text: str) -> None:
        reach(self.page, selector)
        self.page.keyboard.type(text)

    def give(self, selector: str, file: Path) -> None:
        reach(self.page, selector)
        with self.page.expect_file_chooser() as chooser:
            self.page.keyboard.press("Space")
        chooser.value.set_files(str(file))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Clicks, pytest.param(Keys, marks=minutes)])
def test_the_story(address: str, page: Page, tmp_path: Path, kind: type[Clicks]) -> None:
    """Install, give a table, see what is learned, change a value, train, watch, come back, take the adapter along, put
    it into production, talk to base and tuned beside each other."""
    data, person = tmp_path / "colours.csv", kind(page)
    data.write_bytes(rows())
    page.goto(f"{address}/models")
    person.write("#model", "tiny")
    person.press("button >> text=/^Install$/")
    page.wait_for_selector(".card >> text=Train it")
    person.press("a >> text=Train it")
    page.wait_for_selector("#file")
    person.give("#file", data)
    person.press("#go")
    looked_at(page)
    person.write("#v-epochs", "2")
    person.press("button >> text=Plan again")
    page.wait_for_selector(".value.yours #v-epochs")
    assert page.input_value("#v-epochs") == "2"
    assert "53 rows x 2 epochs" in page.text_content("#plan")
    person.press("#start")
    page.wait_for_selector("#now")
    page.wait_for_selector("#numbers tbody tr", state="attached")
    assert page.is_visible("#loss") and page.get_attribute("#course", "hidden") is None
    here = page.url
    page.close()

    again = page.context.new_page()
    person.page = again
    again.goto(here)
    again.wait_for_selector(".chip.completed")
    again.wait_for_selector("#after .report .text")
    steps = int(again.locator(".figures dd").first.inner_text().split()[0])
    again.wait_for_selector(f"#loss[data-count='{steps + 1}']")  # and the losses before the first step
    with again.expect_download() as download:
        person.press("a >> text=adapter.zip")
    loads(Path(download.value.path()), tmp_path / "adapter")
    person.press("button >> text=Put into production")
    again.wait_for_selector(".chip.production")
    beside_the_base(again, person)
    again.goto(f"{address}/runs")
    shown = again.inner_text("main")
    assert "completed" in shown and "in use" in shown and "in production" in shown and "tiny/1" in shown


def looked_at(page: Page) -> None:
    """The page of a file says what is learned of it, which row is not, and how long it takes."""
    page.wait_for_selector("#rows .tokens mark")
    page.wait_for_selector("#data .figures")
    assert "line 9" in page.inner_text("#data") and "output is empty" in page.inner_text("#data")
    assert page.locator("#rows .tokens:visible").count() == 3, "the others come when they are asked for"
    learned = "".join(page.locator(".tokens >> nth=0 >> mark").all_inner_texts())
    assert learned.startswith("Thing 0 is red.") and "What is" not in learned
    page.wait_for_selector("#time .big")
    assert re.search(r"\d+ (to [\d.]+ )?(second|minute)s?", page.inner_text("#time"))
    assert "$" in page.inner_text(".rented > summary")


def beside_the_base(page: Page, person: Clicks) -> None:
    """One question to both."""
    person.press("a >> text=Talk to it")
    page.wait_for_selector("#question")
    until(page, "document.querySelector('#chosen').textContent.includes(' and ')")
    person.write("#question", "What is the colour of thing 3?")
    page.keyboard.press("Enter")
    until(
        page,
        """[...document.querySelectorAll('.answer .text')].filter((one) => one.textContent.trim()).length === 2
           && document.querySelector('#stop').hidden""",
    )


@minutes
@pytest.mark.slow
def test_downloads_are_made_when_they_are_asked_for(address: str, page: Page, tmp_path: Path) -> None:
    """A merged model and a GGUF, by commands that go on while the page is closed."""
    data = tmp_path / "colours.csv"
    data.write_bytes(rows())
    for words in (("install", "tiny"), ("train", "tiny", "--data", data, "--epochs", "1", "--skip-test")):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    page.goto(f"{address}/runs")
    page.click(".rows a")
    page.click("button[aria-label='Make GGUF']")
    page.wait_for_selector("#made progress, #made a[download]")
    page.goto("about:blank")
    page.go_back()
    with page.expect_download() as download:
        page.click("#made a[download]")
    assert Path(download.value.path()).read_bytes()[:4] == b"GGUF"
    page.click("button[aria-label='Make Merged model']")
    with page.expect_download() as download:
        page.click("#made a[href$='merged']")
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert "model.safetensors" in names and "tokenizer.json" in names
    page.click("summary[aria-label='Delete GGUF']")
    page.click("#made li:has-text('GGUF') button >> text=Yes, delete")
    page.wait_for_selector("button[aria-label='Make GGUF']")


@pytest.mark.slow
def test_an_open_page_says_when_the_studio_is_away_and_comes_back(llm_home: Path, page: Page) -> None:
    """The page is not touched meanwhile."""
    with started() as running:
        port = int(running.studio.address.rpartition(":")[2])
        file = files.receiving(running.studio.folder)
        file.write_bytes(rows())
        kept = files.keep(running.studio.store, running.studio.folder, file, "colours.csv")
        job, _ = jobs.create(running.studio.store, NewJob(model="tiny", file_id=kept.id))
        page.goto(f"{running.studio.address}/runs/{job.id}")
        until(page, "!!document.querySelector('#live')?._htmx?.sse?.reader")
    page.wait_for_selector("#away")
    with started(port) as running:
        with running.studio.store.writing() as session:
            jobs.cancel(running.studio.store, session, job.id)
        page.wait_for_selector("#away", state="detached")
        page.wait_for_selector(".chip.cancelled")


@contextmanager
def started(port: int = 0) -> Iterator[Running]:
    """A studio without a worker that answers."""
    with studio_opened(StudioRequest(port=port, worker=False)) as running:
        thread = threading.Thread(target=running.run)
        thread.start()
        try:
            yield running
        finally:
            running.stop()
            thread.join(60)


def reach(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus, which must then be visible."""
    wanted = page.locator(selector).first
    wanted.wait_for()
    for _ in range(150):
        if wanted.evaluate("(one) => one === document.activeElement"):
            width = wanted.evaluate("(one) => getComputedStyle(one).outlineWidth")
            assert width == "2px", f"{selector} has the focus, but nobody sees it"
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached by Tab")


def loads(archive: Path, folder: Path) -> None:
    """The adapter changes what the base says, in plain PEFT."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llm_installer.install.tiny import MODEL_DIR

    zipfile.ZipFile(archive).extractall(folder)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    ids = tokenizer("What is the colour of thing 3?", return_tensors="pt")
    base = AutoModelForCausalLM.from_pretrained(MODEL_DIR)
    with torch.no_grad():
        before = base(**ids).logits
        after = PeftModel.from_pretrained(base, folder)(**ids).logits
    assert not torch.allclose(before, after)
