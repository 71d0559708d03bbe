"""Training rows that the page sends: what is taken, how it is kept, and who may send it; and the page's headers."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.errors import DataError, DiskError
from llm_installer.core.examples import Example, Origin
from llm_installer.data.formats import convert
from llm_installer.server.guard import Guard
from llm_installer.server.page.mount import add_page
from llm_installer.server.page.rows import RowsFile, checked_row
from llm_installer.server.request import ServeRequest
from tests.server.page_api import running

HI, HELLO = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}


def dot() -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def shown(url: str) -> dict[str, object]:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    return {"role": "user", "content": parts}


@pytest.mark.parametrize(
    "messages",
    [
        [HI, HELLO],
        [{"role": "system", "content": "Be kind."}, HI, HELLO],
        [HI, {**HELLO, "weight": 0}, HI, {"role": "assistant", "content": "Zwei\nZeilen 🙂"}],
        [shown(dot()), HELLO],
    ],
    ids=["plain", "system", "context", "image"],
)
def test_a_row_is_one_line_that_training_reads(messages: list[dict[str, object]]) -> None:
    line = checked_row(orjson.dumps({"messages": messages}))
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    (found,) = convert(orjson.loads(line), Origin("rows"))
    assert isinstance(found, Example)
    learned = [message.content for message in found.messages if message.role == "assistant" and message.supervised]
    assert learned == [messages[-1]["content"]]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "not JSON"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "not JSON"),
        (b'{"messages": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", '{"messages": [...]}'),
        ({"messages": [HI, HELLO], "label": False}, '{"messages": [...]}'),
        ({"messages": []}, "ends with an answer"),
        ({"messages": [HI]}, "ends with an answer"),
        ({"messages": [HI, "Hello!"]}, "has a role"),
        ({"messages": [HI, {**HELLO, "tool_calls": []}]}, "has a role"),
        ({"messages": [{"role": "root", "content": "x"}, HELLO]}, "has a role"),
        ({"messages": [HI, {"role": "assistant", "content": ""}]}, "cannot be trained on"),
        ({"messages": [HI, {**HELLO, "weight": 0}]}, "cannot be trained on"),
        ({"messages": [shown("/etc/passwd"), HELLO]}, "data: addresses"),
        ({"messages": [shown("file:///etc/passwd"), HELLO]}, "data: addresses"),
        ({"messages": [shown("http://169.254.169.254/"), HELLO]}, "data: addresses"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(body: object, why: str) -> None:
    with pytest.raises(DataError) as refused:
        checked_row(body if isinstance(body, bytes) else orjson.dumps(body))
    assert why in str(refused.value) and str(refused.value).endswith(".")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]) | JSON, "content": st.text(max_size=5) | JSON},
    optional={"weight": st.sampled_from([0, 1]) | JSON},
)


@given(st.lists(MESSAGE, max_size=5))
@settings(max_examples=150, deadline=None)
def test_every_row_is_refused_in_a_sentence_or_can_be_trained_on(messages: list[object]) -> None:
    try:
        line = checked_row(orjson.dumps({"messages": messages}))
    except DataError:
        return
    (found,) = convert(orjson.loads(line), Origin("rows"))
    assert isinstance(found, Example) and found.messages[-1].supervised


def test_rows_of_many_at_once_stay_whole(tmp_path: Path) -> None:
    rows = RowsFile(tmp_path / "new folder" / "rows.jsonl")
    line = checked_row(orjson.dumps({"messages": [HI, {"role": "assistant", "content": "long " * 5000}]}))
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(rows.append(line))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == list(range(1, 21))
    assert rows.path.read_bytes() == line * 20


def test_half_a_row_at_the_end_is_closed_first(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"messages": [')
    assert RowsFile(path).append(b"{}\n") == 2
    assert path.read_bytes() == b'{"messages": [\n{}\n'


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"cannot be written: Is a directory\. The row was not saved\."):
        RowsFile(tmp_path).append(b"{}\n")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx2.Client, Path]]:
    root = tmp_path_factory.mktemp("model")
    (root / "train.sh").touch()
    app = FastAPI()
    guarded = Guard(app, ServeRequest(), add_page(app, {'<script>"&': root / "rows.jsonl"}))
    with running(guarded) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client, root


def test_every_file_comes_under_the_strict_policy(served: tuple[httpx2.Client, Path]) -> None:
    client, _ = served
    page = client.get("/")
    names = [name for name in ("page.js", "page.css", "messages.css", "theme.js", "markdown.js", "icon.svg")]
    for answer in (page, client.head("/"), *(client.get(f"/page/{name}") for name in names)):
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert "<script>&quot;" not in page.text and "&lt;script&gt;&quot;&amp;" in page.text
    assert " style=" not in page.text and " onclick=" not in page.text and "<script>" not in page.text
    for name in ("mount.py", "index.html", "..%2fmount.py", "%2e%2e/mount.py", "nothing.js"):
        assert client.get(f"/page/{name}").status_code == 404
    assert client.get("/openapi.json").json()["paths"] == {}, "the page is no part of the API"


def test_rows_come_from_the_page_alone(served: tuple[httpx2.Client, Path]) -> None:
    client, root = served
    body = orjson.dumps({"messages": [HI, HELLO]})
    json = {"content-type": "application/json"}
    form = {"content-type": "text/plain"}  # what a page from elsewhere may send without asking first
    for headers in ({**form, "origin": "http://evil.invalid"}, {**json, "origin": "null"}, {"host": "evil.invalid"}):
        refused = client.post("/page/rows", content=body, headers=headers)
        assert refused.status_code == 403 and refused.json()["error"]["code"].startswith("forbidden")
    assert not (root / "rows.jsonl").exists()
    own = {**json, "origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    answer = client.post("/page/rows", content=body, headers=own).json()
    assert answer["rows"] == 1 and answer["path"] == str(root / "rows.jsonl")
    assert answer["command"] == f"{root}/train.sh --data {root}/rows.jsonl"
    assert client.post("/page/rows", content=b"{}", headers=json).status_code == 400
    assert client.post("/page/rows", content=b" " * (17 << 20), headers=json).status_code == 413
    (root / "rows.jsonl").unlink()
    (root / "rows.jsonl").mkdir()
    full = client.post("/page/rows", content=body, headers=json)
    assert (full.status_code, full.json()["error"]["type"]) == (507, "server_error")


def test_where_there_is_a_key_rows_need_it_and_the_page_does_not(tmp_path: Path) -> None:
    app = FastAPI()
    guarded = Guard(app, ServeRequest(api_key="secret"), add_page(app, {"tiny": tmp_path / "rows.jsonl"}))
    with running(guarded) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/").status_code == client.get("/page/page.js").status_code == 200
        body = {"messages": [HI, HELLO]}
        assert client.post("/page/rows", json=body).status_code == 401
        for path in ("/page/rows", "/page/nothing", "/page/../v1/models", "/openapi.json", "/v1"):
            assert client.get(path).status_code == 401, path
        assert client.post("/page/rows", json=body, headers={"Authorization": "Bearer secret"}).json()["rows"] == 1
