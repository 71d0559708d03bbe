"""Many bad requests at once, of every kind: none is a server error, none reads a file or the network, none stays."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.openapi import attacked
from tests.server.conftest import Running
from tests.server.test_refusals import BAD, BODIES, HI, PIXEL, TOOL, image

SECRET_FILES = ("/etc/passwd", "/etc/hostname")
PLACES = [
    *(f"file://{path}" for path in SECRET_FILES), *SECRET_FILES, "http://169.254.169.254/latest", "ftp://127.0.0.1/x",
    "http://127.0.0.1:9/x", "data:image/svg+xml,<svg/>", f"data:image/png;base64,{'A' * 999}", PIXEL, "\\\\host\\x",
]  # fmt: skip
ODD = [None, True, -1, 0, 1.5, 10**30, "", "x", "\x00", "\ud800", [], [[]], {}, {"a": {}}, [None], HI, [TOOL], "[" * 99]


def bad_requests(chance: Random, count: int) -> Iterator[bytes]:
    """Bodies that are wrong in a way, or in several."""
    right = {
        "messages": HI,
        "max_tokens": 1,
        "temperature": 1,
        "tools": [TOOL],
        "stop": ["x"],
        "n": 1,
        "logprobs": True,
    }
    fields = [
        *right,
        "model",
        "prompt",
        "seed",
        "top_p",
        "logit_bias",
        "response_format",
        "stream_options",
        "tool_choice",
    ]
    for _ in range(count):
        body: dict[str, object] = {"model": "tiny", **right}
        kind = chance.randrange(5)
        if kind == 0:
            body |= {"messages": image({"url": chance.choice(PLACES)})}
        elif kind == 1:
            body |= chance.choice(BAD)[0]
        else:
            body |= {chance.choice(fields): chance.choice(ODD) for _ in range(chance.randrange(1, 4))}
        text = json.dumps(body).encode("utf-8", "surrogatepass")
        if kind == 2:
            at = chance.randrange(len(text))
            text = text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :]
        elif kind == 3:
            text = text[: chance.randrange(len(text))]
        yield chance.choice(BODIES) if chance.random() < 0.1 else text


@contextmanager
def watched() -> Iterator[list[str]]:
    """What threads beside this one ask of files that concern nobody, and of the network."""
    seen: list[str] = []
    mine, going = threading.current_thread(), [True]

    def hook(event: str, args: tuple[object, ...]) -> None:
        if not going or threading.current_thread() is mine:
            return
        if event in ("socket.connect", "socket.getaddrinfo") or (event == "open" and str(args[0]) in SECRET_FILES):
            seen.append(f"{event} {args[:2]}")

    sys.addaudithook(hook)
    try:
        yield seen
    finally:
        going.clear()


@pytest.mark.slow
def test_three_hundred_bad_requests(served: Running) -> None:
    chance, statuses = Random(0), list[int]()
    with watched() as seen:
        for body in bad_requests(chance, 300):
            path = chance.choice(["/v1/chat/completions", "/v1/completions", "/page/rows", "/v1/responses"])
            answer = served.http.post(path, content=body, headers={"Content-Type": "application/json"})
            statuses.append(answer.status_code)
            assert answer.status_code < 500, (path, body[:300], answer.text)
            assert answer.status_code == 200 or answer.json()["error"]["message"], answer.text
        served.idle()
    assert seen == []
    assert statuses.count(400) > 200 and statuses.count(200) < 60
    assert not served.server.service._open and served.chat("Hi").status_code == 200
    (served.folder.root / "rows.jsonl").unlink(missing_ok=True)


@pytest.mark.slow
def test_bodies_of_ten_megabytes(served: Running) -> None:
    size = 10_000_000
    bodies = [
        {"messages": [{"role": "user", "content": "a " * (size // 2)}]},
        {"messages": HI * (size // 40)},
        {"messages": HI, "stop": "x" * size},
        {"messages": HI, "x" * size: 1},
        {"messages": HI, "logit_bias": {str(i): 1 for i in range(size // 12)}},
        {"messages": HI, "tools": [TOOL] * (size // 80)},
        {"messages": image({"url": "data:image/png;base64," + "A" * size})},
    ]
    for body in bodies:
        answer = served.http.post("/v1/chat/completions", json={"model": "tiny", "max_tokens": 1, **body})
        assert answer.status_code in (200, 400), answer.text[:300]
    assert served.http.post("/v1/completions", content=b"[" * size).status_code == 400
    assert served.http.post("/v1/completions", content=b" " * (21 << 20)).status_code == 413
    served.idle()


@pytest.mark.slow
def test_what_schemathesis_makes_of_the_document_is_no_server_error(served: Running, tmp_path: Path) -> None:
    said = attacked(served.address, tmp_path)
    assert "/v1/chat/completions" in said or "passed" in said
    served.idle()
    assert not served.server.service._open
