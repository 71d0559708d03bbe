"""A small API in OpenAI's shapes that answers canned texts, for tests of the page alone."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp

from llm_installer.server.page.mount import add_page

MARKDOWN = """Here is how it works.

## Counting words

1. Read the **file**, line by line
2. Split each line at spaces, as in `line.split()`
   - commas stay where they are
3. Count with *care*

```python
# Words of a text, the commonest first.
from collections import Counter

def words(text: str, most: int = 10) -> list[tuple[str, int]]:
    return Counter(text.lower().split()).most_common(most)
```

| word | count | share |
|:-----|------:|:-----:|
| the  | 1,204 | 6.1 % |
| and  |   870 | 4.4 % |

> Small words come first in nearly every text.

More is at [the manual](https://docs.python.org/3/library/collections.html), or at https://example.com/a_(b).
"""
HOSTILE = """<img src=x onerror="window.hurt=1"><script>window.hurt=2</script><svg onload=window.hurt=3>

[click](javascript:window.hurt=4) [data](data:text/html,<script>window.hurt=5</script>) ![pic](http://evil.invalid/x.png)
[tab](java\tscript:window.hurt=6) <a href="javascript:window.hurt=7">x</a> <javascript:window.hurt=8>
[fine](https://example.com/" onmouseover="window.hurt=9)

```"><script>window.hurt=10</script>
</code></pre><script>window.hurt=11</script>
```

| <b>a</b> | b |
|---|---|
| <img src=x onerror=window.hurt=12> | [x](vbscript:1) |
"""
BASE, FAST, LORA, SEES = "tiny", "tiny:20261121-100000-fast", "tiny:lora", "tiny:20261122-090000-eyes"
MODELS: list[dict[str, object]] = [
    {"id": BASE, "object": "model"},
    {"id": LORA, "object": "model", "root": FAST, "score": "loss 2.3120 -> 1.2345"},
    {
        "id": FAST,
        "object": "model",
        "base_loss": 2.312,
        "best_loss": 1.2345,
        "about": "Trained on 1,200 rows, mode fast.",
    },
    {"id": SEES, "object": "model", "score": 0.98, "about": "Trained on 300 rows with images.", "vision": True},
]


class Api:
    """What the stand-in was asked, and how it shall behave."""

    def __init__(self, rows: Path) -> None:
        self.asked: list[dict[str, object]] = []
        self.rows = rows
        self.key = ""
        self.models = MODELS
        self.broken = False
        """Streams end in the middle."""
        self.refusal: tuple[int, str, dict[str, str]] | None = None
        self.gate = threading.Event()
        """Answers to "wait" go on when it is set."""
        self.at_once, self.most_at_once, self.left = 0, 0, 0
        self.app = FastAPI(openapi_url=None)
        self.app.add_api_route("/v1/models", self.served)
        self.app.add_api_route("/v1/chat/completions", self.answer, methods=["POST"], response_model=None)
        add_page(self.app, {"tiny": rows})

    def error(self, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        return JSONResponse({"error": {"message": message, "type": "x", "param": None, "code": None}}, status, headers)

    def denied(self, request: Request) -> bool:
        return bool(self.key) and request.headers.get("authorization") != f"Bearer {self.key}"

    async def served(self, request: Request) -> Response:
        if self.denied(request):
            return self.error(401, "The key is missing or wrong.")
        return JSONResponse({"object": "list", "data": self.models})

    async def answer(self, request: Request) -> Response:
        if self.denied(request):
            return self.error(401, "The key is missing or wrong.")
        if self.refusal:
            return self.error(*self.refusal)
        asked = await request.json()
        self.asked.append(asked)
        return StreamingResponse(self.stream(asked), media_type="text/event-stream")

    async def stream(self, asked: dict[str, object]) -> AsyncIterator[str]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            async for line in self.chunks(asked):
                yield line
        finally:
            self.at_once -= 1
            self.left += 1

    async def chunks(self, asked: dict[str, object]) -> AsyncIterator[str]:
        text = canned(asked)
        waits = text.startswith("wait")
        pieces = [text[at : at + 400_000] for at in range(0, len(text), 400_000)]
        if len(text) < 5000:
            pieces = re.findall(r"\S+\s*", text)
        yield event({"role": "assistant", "content": ""})
        for n, piece in enumerate(pieces):
            yield event({"reasoning_content" if piece.startswith("hm") else "content": piece})
            await asyncio.sleep(0.001)
            while waits and n >= 2 and not self.gate.is_set():
                await asyncio.sleep(0.005)
            if self.broken and n == 3:
                return
        yield event({}, "length" if "length" in text[:20] else "stop")
        usage = {"prompt_tokens": 5, "completion_tokens": len(pieces), "total_tokens": 5 + len(pieces)}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"


def event(delta: dict[str, str], finish: str | None = None) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]})}\n\n"


def canned(asked: dict[str, object]) -> str:
    """What is answered: by a word in the last question, else an echo that names the model."""
    messages = asked["messages"]
    assert isinstance(messages, list)
    last = messages[-1]["content"]
    words = last if isinstance(last, str) else f"{len(last)} parts"
    texts = {
        "markdown": MARKDOWN,
        "hostile": HOSTILE,
        "wait": "wait " * 12,
        "length": "length " * 12,
        "ponder": "hm hm <b>hm</b> Done.",
        "long line": "x" * 1_000_000,
        "nesting": f"{'>' * 50_000}a\n\n{'- ' * 20_000}b\n\n{'[' * 60_000}c\n\n{'*a **b ' * 20_000}\n\n{'`' * 30_000}",
    }
    found = next((text for word, text in texts.items() if word in words), None)
    return found or f"{asked['model']} was asked {words!r} after {len(messages) - 1} messages."


@contextmanager
def running(app: ASGIApp, port: int = 0) -> Iterator[int]:
    """The port of a server in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            thread.join(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
