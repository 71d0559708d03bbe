"""How a server that begins looks: its address, its models, and two ways to ask it something that work as they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from llm_installer.server.request import Serving
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import Columns

KEY = "KEY"


@drawing.register
def serving(found: Serving) -> Iterator[RenderableType]:
    """A line for each model, then examples."""
    names = " and ".join(folder.root.name for folder in found.folders)
    yield Text(f"Serving {names} on {found.address} (Ctrl-C ends it)")
    yield Columns([(model.name, model.words) for model in found.models], indent=2, below=1)
    yield Text(f"To chat in a browser, open {found.address}")
    yield Text()
    yield Text("From a shell:")
    yield Text()
    yield from (Text(line) for line in curl(found))
    yield Text()
    yield Text("From Python, with the package openai:")
    yield Text()
    yield from (Text(f"  {line}" if line else "") for line in snippet(found).splitlines())


def curl(found: Serving) -> list[str]:
    """A command for a shell."""
    key = [f"  -H 'Authorization: Bearer {KEY}' \\"] if found.needs_key else []
    body = f'{{"model": {json.dumps(found.models[-1].name)}, "max_tokens": 64,\n "messages": {json.dumps(_MESSAGES)}}}'
    head = f"  curl {found.address}/v1/chat/completions -H 'Content-Type: application/json' \\"
    return [head, *(f"  {line}" for line in key), *f"    -d '{_escaped(body)}'".splitlines()]


def _escaped(text: str) -> str:
    """A text for between single quotes of a shell; its lines stay lines."""
    return text.replace("'", "'\\''")


def snippet(found: Serving) -> str:
    """A program."""
    key = KEY if found.needs_key else "none"
    return (
        "from openai import OpenAI\n"
        f"client = OpenAI(base_url={json.dumps(found.address + '/v1')}, api_key={json.dumps(key)})\n"
        f"answer = client.chat.completions.create(model={json.dumps(found.models[-1].name)}, max_tokens=64,\n"
        f"    messages={json.dumps(_MESSAGES)})\n"
        "print(answer.choices[0].message.content)\n"
    )


_MESSAGES = [{"role": "user", "content": "Who are you?"}]
