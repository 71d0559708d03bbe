"""The prompts that a model answers while it is trained: a text file with one on each line, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Kind, Message, Role
from llm_installer.core.text import counted
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.template_probes import CannotRender

MOST_PROMPTS = 50
"""All of them are answered at each evaluation, and that takes time."""
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Prompt:
    """One prompt, as it is shown and as it is sent to the model."""

    text: str
    ids: tuple[int, ...]


def read_prompts(file: Path, encoder: Encoder, kind: Kind, longest: int) -> list[Prompt]:
    """The prompts in a .txt, .json or .jsonl file. Plain ones go through the chat template where the training data
    are chats (`kind`); messages always do.

    Raises DataError, which names the line, for a file that cannot be read, for an entry that is not a prompt, and for a
    prompt of more than `longest` tokens.
    """
    prompts = [_prompt(value, where, encoder, kind) for value, where in _values(file)]
    if not prompts:
        raise DataError(f"{file} holds no prompts; write one on each line")
    if len(prompts) > MOST_PROMPTS:
        raise DataError(f"{file} holds {len(prompts)} prompts; at most {MOST_PROMPTS} are answered at each evaluation")
    for prompt in prompts:
        if len(prompt.ids) > longest:
            raise DataError(
                f"{file}: the prompt {prompt.text[:40]!r} has {counted(len(prompt.ids), 'token')}, and at most "
                f"{longest:,} leave room for an answer; shorten it"
            )
    return prompts


def _values(file: Path) -> Iterator[tuple[object, str]]:
    """(value, origin) of every entry."""
    if file.suffix not in (".txt", ".json", ".jsonl"):
        raise DataError(f"{file} is not a file of prompts; give a .txt, .json or .jsonl file")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); give a file of prompts") from None
    except UnicodeDecodeError:
        raise DataError(f"{file} is not UTF-8 text; save it as UTF-8") from None
    if file.suffix == ".json":
        entries = _json(text, str(file))
        if not isinstance(entries, list):
            raise DataError(f"{file} is not a list; write the prompts as [...]")
        yield from ((entry, f"{file} record {number}") for number, entry in enumerate(entries, 1))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{file}:{number}"
            yield (_json(line, where) if file.suffix == ".jsonl" else line.strip()), where


def _json(text: str, where: str) -> object:
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}); correct it") from None
    return found


def _prompt(value: object, where: str, encoder: Encoder, kind: Kind) -> Prompt:
    if isinstance(value, dict):
        value = value.get("messages", value.get("prompt"))
    if isinstance(value, str) and value.strip():
        if kind != "chat":
            return Prompt(value, tuple(encoder.text_ids(value)))
        messages = [Message("user", value)]
    elif isinstance(value, list) and value:
        messages = [_message(turn, where) for turn in value]
        if messages[-1].role == "assistant":
            raise DataError(f"{where}: the last message is the assistant's; end with the one to answer")
    else:
        raise DataError(f'{where}: not a prompt; write a text, {{"prompt": "..."}} or {{"messages": [...]}}')
    try:
        return Prompt(messages[-1].content, tuple(encoder.prompt_ids(messages)))
    except CannotRender as error:
        raise DataError(f"{where}: {error}") from None


def _message(turn: object, where: str) -> Message:
    role = ROLES.get(str(turn.get("role"))) if isinstance(turn, dict) else None
    content = turn.get("content") if isinstance(turn, dict) else None
    if role is None or not isinstance(content, str):
        raise DataError(f'{where}: a message is {{"role": "user", "content": "..."}}; roles are {", ".join(ROLES)}')
    return Message(role, content)
