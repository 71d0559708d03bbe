"""The chat page in a real browser: what it sends, what it shows, what it keeps, and that no text becomes HTML.

A browser and a small server serve the whole file. Without Chromium or Playwright these tests are skipped.
"""

from __future__ import annotations

import base64
import io
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from llm_installer.core.examples import Example, Origin
from llm_installer.data.formats import convert
from tests.server.conftest import RUNS, Running
from tests.server.page_api import BASE, FAST, LORA, MODELS, SEES, Api, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need Playwright")
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(os.environ.get("AXE_JS", ROOT / "build" / "axe-core" / "package" / "axe.min.js"))
PATIENCE = 60_000  # milliseconds
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
Served = tuple[Api, int]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Api(tmp_path_factory.mktemp("a model") / "rows.jsonl")
    with running(made.app) as port:
        yield made, port


@pytest.fixture(scope="module")
def window(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=DESK, permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


@pytest.fixture
def page(window: Page, api: Served) -> Iterator[Page]:
    """The page in a browser that knows nothing yet; it may ask its own server alone, and nothing may go wrong in it."""
    server, port = api
    server.__dict__.update(key="", models=MODELS, broken=False, refusal=None, asked=[], most_at_once=0)
    server.gate.clear()
    origin = f"http://127.0.0.1:{port}/"
    window.goto(f"{origin}page/icon.svg")
    window.evaluate("localStorage.clear(); sessionStorage.clear()")
    window.evaluate("localStorage.setItem('llm-installer:settings', JSON.stringify({models: ['tiny']}))")
    window.set_viewport_size(DESK)
    window.goto(origin)
    window.wait_for_selector(".served")
    wrong: list[str] = []
    ways = {
        "pageerror": lambda error: wrong.append(str(error)),
        "console": lambda message: wrong.append(message.text) if "Policy" in message.text else None,
        "request": lambda sent: wrong.append(sent.url[:200]) if not sent.url.startswith((origin, "data:")) else None,
        "dialog": lambda dialog: wrong.append(dialog.message),
    }
    for event, way in ways.items():
        window.on(event, way)
    yield window
    for event, way in ways.items():
        window.remove_listener(event, way)
    server.gate.set()
    assert wrong == []


def ask(page: Page, question: str, wait: bool = True) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    if wait:
        page.wait_for_selector("#stop", state="hidden")


def answers(page: Page) -> list[str]:
    return page.locator(".answer .text").all_inner_texts()


def compare(page: Page, *models: str) -> None:
    page.click("#compare")
    for model in models:
        page.check(f'#models input[value="{model}"]')
    page.keyboard.press("Escape")


def test_an_answer_comes_as_markdown_and_outlives_a_reload(page: Page, api: Served) -> None:
    ask(page, "markdown, please")
    text = page.locator(".answer .text")
    assert text.locator("h4").inner_text() == "Counting words"
    assert text.locator("ol > li").count() == 3 and text.locator("ol ul > li").count() == 1
    assert text.locator("pre").inner_text().startswith("# Words of a text, the commonest first.\nfrom collections")
    assert text.locator("tbody tr").all_inner_texts() == ["the\t1,204\t6.1 %", "and\t870\t4.4 %"]
    assert text.locator("blockquote").inner_text() == "Small words come first in nearly every text."
    links = [link.get_attribute("href") for link in text.locator("a").all()]
    assert links == ["https://docs.python.org/3/library/collections.html", "https://example.com/a_(b)"]
    assert re.fullmatch(r"\d+ tokens( · [\d,.]+ tokens/s)? · finished", page.inner_text(".facts"))
    before = text.inner_html()
    ask(page, "and then?")
    page.reload()
    page.wait_for_selector(".answer")
    assert page.locator(".answer .text").first.inner_html() == before
    assert page.inner_text("#conversations") == "markdown, please"
    sent = api[0].asked[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]  # type: ignore[attr-defined]


def test_a_restart_of_the_server_loses_nothing(browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    with running(Api(tmp_path / "rows.jsonl").app) as port:
        page.goto(f"http://127.0.0.1:{port}/")
        ask(page, "before")
    ask(page, "while it is away")
    assert "The server does not answer." in page.inner_text(".problem span")
    page.evaluate("dispatchEvent(new Event('focus'))")
    page.wait_for_selector("#banner:not([hidden])")
    with running(Api(tmp_path / "rows.jsonl").app, port):
        page.wait_for_selector("#banner", state="hidden")  # found by itself
        page.click(".problem button")
        page.wait_for_selector("#stop", state="hidden")
        assert page.locator(".bubble").all_inner_texts() == ["before", "while it is away"]
        assert answers(page)[1] == "tiny:lora was asked 'while it is away' after 2 messages."
        page.close()


def test_the_real_server_answers_with_all_its_models_at_once(browser: Browser, served: Running) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(served.address)
    page.wait_for_selector(f"#models >> text={RUNS[1]}", state="attached")
    assert page.inner_text("#chosen") == "lora"
    page.click("#open-settings")
    page.fill("#set-max_tokens", "12")
    page.keyboard.press("Escape")
    page.click("#compare")
    for box in page.locator("#models .choice input").all():
        if not box.is_disabled():
            box.check()
    page.keyboard.press("Escape")
    ask(page, "Who are you?")
    assert page.locator(".columns .answer").count() == 4 and page.locator(".problem").count() == 0
    base = served.chat("Who are you?", max_tokens=12).json()["choices"][0]["message"]["content"]
    assert base.split() in [text.split() for text in answers(page)]
    page.locator(".columns [aria-label='Save as a training row']").first.click()
    page.fill("#row-text", "I am tiny.")
    page.click("#row button[type=submit]")
    page.wait_for_selector("#row .command")
    assert orjson.loads((served.folder.root / "rows.jsonl").read_bytes())["messages"][1]["content"] == "I am tiny."
    page.close()


HURT = "() => [window.hurt, document.querySelectorAll('#messages :is(script, img, iframe, object, svg svg)').length]"
OUTSIDE = """() => [...document.querySelectorAll('#messages *')].flatMap((node) =>
  [...node.attributes].filter(({name, value}) => /^on|^style$|^src/i.test(name)
    || (name === 'href' && !/^https?:/.test(value))).map(({name, value}) => name + '=' + value))"""


def test_hostile_answers_are_text(page: Page) -> None:
    ask(page, "hostile, please")
    page.wait_for_timeout(100)
    assert page.evaluate(HURT) == [None, 0]
    assert page.evaluate(OUTSIDE) == []
    for link in page.locator(".text a").all():
        assert {"noopener", "noreferrer"} <= set((link.get_attribute("rel") or "").split())
    assert "<script>window.hurt=2</script>" in answers(page)[0], "the text itself is shown"
    page.click("[aria-label='Edit this question']")
    page.fill(".editing textarea", "<img src=x onerror='window.hurt=20'> hostile")
    page.press(".editing textarea", "Enter")
    page.wait_for_selector("#stop", state="hidden")
    page.reload()
    page.wait_for_selector(".answer")
    assert page.evaluate(HURT) == [None, 0]
    assert page.evaluate(OUTSIDE) == []


RANDOM_TEXTS = """async (texts) => {
  const { Shown } = await import('/page/markdown.js');
  const allowed = new Set(('A BLOCKQUOTE BR BUTTON CODE DEL DETAILS DIV EM H3 H4 H5 H6 HR LI OL P PRE SPAN STRONG '
    + 'SUMMARY TABLE TBODY TD TH THEAD TR UL svg path').split(' '));
  const wrong = [];
  for (const text of texts) {
    const whole = new Shown();
    whole.update(text);
    for (const node of whole.node.querySelectorAll('*')) {
      if (!allowed.has(node.tagName)) wrong.push([text, node.tagName]);
      for (const { name, value } of node.attributes) {
        const away = name === 'href' && !/^https?:/.test(value);
        if (away || /^on|style|src/i.test(name)) wrong.push([text, name, value]);
      }
    }
    const growing = new Shown();
    for (let end = 0; end < text.length; end += 7) growing.update(text.slice(0, end));
    growing.update(text);
    if (growing.node.innerHTML !== whole.node.innerHTML) wrong.push([text, 'grown differently']);
    const letters = (found) => found.replaceAll(/[^ABDORW]/g, '');
    const shown = whole.node.textContent;
    if (letters(shown) !== letters(text)) wrong.push([text, 'letters were lost', shown]);
  }
  return wrong;
}"""
PIECES = re.split(
    " ",
    "* ** _ __ ~~ ` ``` ~~~ [ ]( ) ![ # ## > - + 1. | |---| \n \n\n <b> <script> javascript: http://e.x/ &lt; \\ "
    "    A B WORD onclick= \" ' <br> </think> \t 🙂 \u202e",
)


def test_a_thought_is_folded_and_stays_in_the_conversation(page: Page, api: Served) -> None:
    ask(page, "ponder")
    page.wait_for_selector(".answer .thought")
    assert page.locator(".answer .thought").evaluate("node => node.open") is False
    assert answers(page)[0].rstrip().endswith("Done.") and "hm hm" not in answers(page)[0]
    ask(page, "Go on")
    assert api[0].asked[-1]["messages"][1]["content"] == "<think>\nhm hm \n</think>\n\n<b>hm</b> Done."


def test_no_text_makes_more_than_what_markdown_may(page: Page) -> None:
    """Random rows of marks: only known elements, no address but http, and a text that grew looks like one at once."""
    dice = random.Random(7)
    texts = ["".join(dice.choice(PIECES) + dice.choice(["", "", " ", "\n"]) for _ in range(40)) for _ in range(100)]
    assert page.evaluate(RANDOM_TEXTS, texts) == []


@pytest.mark.parametrize("kind", ["long line", "nesting"])
def test_huge_answers_leave_the_page_usable(page: Page, kind: str) -> None:
    ask(page, kind)
    begun = page.evaluate("performance.now()")
    page.click("#open-settings")
    page.wait_for_selector("#settings[open]")
    assert page.evaluate("performance.now()") - begun < 10_000
    assert page.locator(".text *").count() < 50_000
    if kind == "long line":
        assert "The first 200,000 of 1,000,000 characters are shown." in page.inner_text(".text > .small")


def test_models_are_asked_together_and_a_vote_becomes_a_row(page: Page, api: Served) -> None:
    server = api[0]
    compare(page, LORA, FAST)
    ask(page, "wait for me", wait=False)
    for column in range(3):
        page.wait_for_selector(f".columns .answer >> nth={column} >> text=wait")
    assert server.most_at_once == 3
    assert [asked["model"] for asked in server.asked] == [BASE, LORA, FAST]
    server.gate.set()
    page.wait_for_selector("#stop", state="hidden")
    ask(page, "Who are you?")
    column = page.locator(".columns").nth(1).locator(".answer")
    column.nth(2).locator(".vote").click()
    assert column.nth(2).get_attribute("class") == "answer better"
    ask(page, "And then?")
    for asked in server.asked[-3:]:
        assert asked["messages"][3]["content"].startswith(f"{FAST} was asked"), "all go on from the better answer"  # type: ignore[index]
    page.click("#choose")
    assert "better 1 of 1" in page.inner_text("#models")
    page.keyboard.press("Escape")
    page.locator(".columns").nth(1).locator("[aria-label='Save as a training row']").nth(2).click()
    page.fill("#row-text", "I am the fast one.")
    page.click("#row button[type=submit]")
    shown = page.inner_text("#row .command")
    assert shown.startswith("./train.sh --data ") and "rows.jsonl" in shown
    row = orjson.loads(server.rows.read_bytes().splitlines()[-1])
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"] * 2
    (example,) = convert(row, Origin("rows"))
    assert isinstance(example, Example)
    assert [m.content for m in example.messages if m.supervised and m.role == "assistant"] == ["I am the fast one."]


def test_names_can_be_hidden_until_the_vote(page: Page) -> None:
    page.click("#compare")
    page.check("#models .tick input")
    page.keyboard.press("Escape")
    ask(page, "Who are you?")
    names = page.locator(".columns .by")
    assert names.all_inner_texts() == ["Answer A", "Answer B"]
    page.locator(".vote").first.click()
    assert sorted(name.partition("\n")[0] for name in names.all_inner_texts()) == ["base", "lora"]


def test_stop_again_edit_and_undo(page: Page, api: Served) -> None:
    ask(page, "wait a little", wait=False)
    page.wait_for_selector(".answer .text p")
    left = api[0].left
    page.keyboard.press("Escape")
    page.wait_for_selector("#stop", state="hidden")
    assert "stopped by you" in page.inner_text(".facts")
    assert answers(page)[0].startswith("wait")
    while api[0].left == left:  # the server hears of it
        page.wait_for_timeout(10)
    api[0].gate.set()
    page.click("[aria-label='Another answer']")
    page.wait_for_selector("#stop", state="hidden")
    assert "2 of 2" in page.inner_text(".tools >> nth=1") and "finished" in page.inner_text(".facts")
    page.click("[aria-label='The try before']")
    assert "stopped by you" in page.inner_text(".facts")
    ask(page, "second question")
    page.locator("[aria-label='Edit this question']").first.click()
    page.fill(".editing textarea", "first question, changed")
    page.click(".editing .main")
    page.wait_for_selector("#stop", state="hidden")
    assert [text.split(" was ")[1] for text in answers(page)] == ["asked 'first question, changed' after 0 messages."]
    page.click("#toast button")
    assert page.locator(".bubble").all_inner_texts() == ["wait a little", "second question"]


def test_copy_and_the_keys(page: Page) -> None:
    page.fill("#question", "markdown")
    page.press("#question", "Shift+Enter")
    page.keyboard.type("of two lines")
    page.press("#question", "Enter")
    page.wait_for_selector("#stop", state="hidden")
    assert page.inner_text(".bubble") == "markdown\nof two lines"
    page.click("[aria-label='Copy this code']")
    assert page.evaluate("navigator.clipboard.readText()").startswith("# Words of a text")
    page.click("[aria-label='Copy this answer']")
    assert "| the  | 1,204 | 6.1 % |" in page.evaluate("navigator.clipboard.readText()")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.press("/")
    assert page.input_value("#question") == "/"


TABBED = """() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const ringed = style.outlineStyle !== 'none' || node.id === 'question' || node.matches('.segments input');
  return [node.id || node.getAttribute('aria-label') || node.className || node.tagName, ringed];
}"""


def test_everything_is_reached_by_tab_and_shows_it(page: Page) -> None:
    ask(page, "markdown")
    page.evaluate("document.activeElement.blur(); document.querySelector('.skip').focus()")
    seen = [page.evaluate(TABBED)]
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(TABBED))
        if seen[-1][0] == "BODY":
            break
    reached = {name for name, _ in seen}
    assert [name for name, ringed in seen if not ringed and name != "BODY"] == []
    wanted = "button:not([disabled]), a[href], textarea, input:not([type=file])"
    count = page.evaluate(f"[...document.querySelectorAll('{wanted}')].filter((n) => n.checkVisibility()).length")
    assert len([name for name, _ in seen if name != "BODY"]) >= count
    assert {"new-chat", "choose", "compare", "open-settings", "question", "Copy this code", "conversation"} <= reached


def test_settings_are_sent_and_kept(page: Page, api: Served) -> None:
    ask(page, "before")
    assert {key: api[0].asked[0].get(key) for key in ("temperature", "top_p", "max_tokens", "seed", "stream")} == {
        "temperature": 0, "top_p": 1, "max_tokens": None, "seed": None, "stream": True,
    }  # fmt: skip
    page.click("#open-settings")
    page.fill("#set-system", "Answer in rhymes.")
    page.fill("#set-temperature", "0.7")
    page.fill("#set-max_tokens", "33")
    page.fill("#set-seed", "5")
    page.check("#settings input[name=theme] >> nth=2")
    page.keyboard.press("Escape")
    assert page.inner_text(".system").split() == ["System", "prompt", "Answer", "in", "rhymes."]
    page.reload()
    ask(page, "length after")
    sent = api[0].asked[-1]
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.7, 33, 5)
    assert sent["messages"][0] == {"role": "system", "content": "Answer in rhymes."}  # type: ignore[index]
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    assert "cut at 33 tokens" in page.locator(".facts").last.inner_text()
    page.click("#new-chat")
    assert page.locator(".system").count() == 0, "the system prompt belongs to its conversation"


def test_what_goes_wrong_is_a_sentence_with_a_way_on(page: Page, api: Served) -> None:
    server = api[0]
    server.refusal = (429, "Too many questions are waiting.", {"Retry-After": "3"})
    ask(page, "hello")
    assert page.inner_text(".problem span") == "Too many questions are waiting. Try again in 3 seconds."
    server.refusal, server.broken = None, True
    page.click(".problem button")
    page.wait_for_selector("#stop", state="hidden")
    assert page.inner_text(".problem span") == "The connection ended before the answer did."
    server.broken = False
    page.click(".problem button")
    page.wait_for_selector("#stop", state="hidden")
    assert answers(page) == ["tiny was asked 'hello' after 0 messages."], "one answer, no tries that failed"
    ask(page, "wait", wait=False)
    page.wait_for_selector(".answer >> nth=1 >> text=wait")
    page.reload()
    assert page.inner_text(".problem span") == "This answer was interrupted."


def test_a_server_with_a_key_asks_for_it(page: Page, api: Served) -> None:
    api[0].key = "secret"
    page.reload()
    page.fill("#key-input", "wrong")
    page.press("#key-input", "Enter")
    assert page.inner_text("#key .problem") == "That key was not accepted."
    page.fill("#key-input", "secret")
    page.press("#key-input", "Enter")
    ask(page, "hello")
    assert answers(page) == ["tiny was asked 'hello' after 0 messages."]
    assert "secret" not in page.evaluate("JSON.stringify(localStorage) + location.href")
    page.reload()
    ask(page, "hello again")
    assert len(answers(page)) == 2


def test_conversations_are_kept_apart_and_deleted(page: Page) -> None:
    ask(page, "the first")
    page.click("#new-chat")
    ask(page, "the second")
    assert page.locator(".conversation").all_inner_texts() == ["the second", "the first"]
    page.click(".conversation >> nth=1")
    assert page.locator(".bubble").all_inner_texts() == ["the first"]
    page.click("[aria-label='Delete “the first”']")
    assert page.locator(".conversation").all_inner_texts() == ["the second"]
    page.click("#toast button")
    assert page.locator(".bubble").all_inner_texts() == ["the first"]
    page.evaluate("localStorage.setItem('llm-installer:chat:odd', '{\"turns\": 5}')")
    page.reload()
    assert sorted(page.locator(".conversation").all_inner_texts()) == ["the first", "the second"]


def test_a_full_browser_says_so_and_goes_on(page: Page) -> None:
    page.evaluate("localStorage.setItem('much', 'x'.repeat(5 * 1024 * 1024 - 200))")
    ask(page, "a question that has no room " * 20)
    assert "has no room left" in page.inner_text("#toast")
    assert len(answers(page)) == 1


def a_picture() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (1600, 800), "teal").save(file, "PNG")
    return file.getvalue()


def test_a_model_that_sees_takes_images(page: Page, api: Served) -> None:
    assert not page.is_visible("#attach")
    page.click("#choose")
    page.check(f'#models input[value="{SEES}"]')
    page.keyboard.press("Escape")
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": a_picture()})
    page.wait_for_selector(".picture img")
    ask(page, "What is it?")
    image, text = api[0].asked[-1]["messages"][0]["content"]  # type: ignore[index]
    kind, _, body = image["image_url"]["url"].partition(",")
    assert (kind, text) == ("data:image/png;base64", {"type": "text", "text": "What is it?"})
    from PIL import Image

    assert Image.open(io.BytesIO(base64.b64decode(body))).size == (1024, 512)
    page.click(".answer >> text=Save as a training row")
    page.click("#row button[type=submit]")
    page.wait_for_selector("#row .command")
    (example,) = convert(orjson.loads(api[0].rows.read_bytes().splitlines()[-1]), Origin("rows"))
    assert isinstance(example, Example) and len(example.images) == 1


def test_new_runs_appear_without_a_reload(page: Page, api: Served) -> None:
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("#chosen >> text=lora")  # what was trained is what one wants to talk to first
    api[0].models = [*MODELS, {"id": "tiny:20261123-newest", "object": "model"}]
    page.click("#choose")
    page.wait_for_selector("#models >> text=20261123-newest")
    text = page.inner_text("#models")
    assert "The run in use: 20261121-100000-fast (./lora)." in text and "loss 2.3120 → 1.2345" in text


def saved_rows(api: Served) -> int:
    return api[0].rows.read_bytes().count(b"\n") if api[0].rows.exists() else 0


@pytest.mark.slow
def test_a_saved_row_trains(page: Page, api: Served, installed: Path) -> None:
    api[0].rows.unlink(missing_ok=True)  # a row with a picture is not for this model
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
    page.reload()
    compare(page, LORA)
    ask(page, "Who are you?")
    page.locator(".vote").nth(1).click()
    page.locator("[aria-label='Save as a training row']").nth(1).click()
    before = saved_rows(api)
    page.click("#row button[type=submit]")
    page.wait_for_selector("#row .command")
    while saved_rows(api) == before:  # what is shown may be of a row before this one
        page.wait_for_timeout(50)
    words = [
        sys.executable,
        "-m",
        "llm_installer",
        "train",
        str(installed),
        "--data",
        str(api[0].rows),
        "--epochs",
        "1",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Adapter:" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there: npm pack axe-core, then AXE_JS=its axe.min.js")
def test_axe_finds_nothing_serious(page: Page) -> None:
    page.evaluate(f"() => {{ {AXE.read_text(encoding='utf-8')} }}")
    found: list[str] = []

    def look(where: str) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            result = page.evaluate("axe.run({resultTypes: ['violations']})")
            found.extend(
                f"{where}, {scheme}: {one['id']} {one['impact']} {[node['target'] for node in one['nodes']][:3]}"
                for one in result["violations"]
                if one["impact"] in ("serious", "critical")
            )

    look("empty")
    ask(page, "markdown")
    look("conversation")
    compare(page, LORA)
    ask(page, "Who are you?")
    page.locator(".vote").first.click()
    page.set_viewport_size(PHONE)
    look("compare on a phone")
    page.click("#open-settings")
    look("settings")
    page.keyboard.press("Escape")
    page.click("#choose")
    look("models")
    page.keyboard.press("Escape")
    page.click("#open-history")
    look("history")
    assert found == []


def test_nothing_is_wider_than_the_window(page: Page) -> None:
    compare(page, LORA, FAST)
    ask(page, "markdown")
    for width in (320, 390, 800, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        over = "document.documentElement.scrollWidth + document.getElementById('scroll').scrollWidth"
        room = "innerWidth + document.getElementById('scroll').clientWidth"
        assert page.evaluate(over) <= page.evaluate(room), width
