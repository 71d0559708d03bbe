"""Records that need more than a question and an answer: code, tool calls, preferences, labels, captions, articles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llm_installer.core.examples import Example, Origin
from llm_installer.data.formats.converters import (
    ACCOMPANYING,
    IMAGES,
    Convert,
    alpaca,
    below,
    converse,
    exchange,
    openai,
    plain,
    question,
    sharegpt,
    spoken_turns,
    thoughtful,
    two_lists,
)
from llm_installer.data.formats.learning import verdict
from llm_installer.data.formats.pairs import continuation, pair
from llm_installer.data.formats.tools import read_calls
from llm_installer.data.formats.turns import IMAGE_MARK, Turn, read_turns, turn
from llm_installer.data.formats.values import (
    Record,
    SkipRecord,
    absent,
    as_list,
    best_answer,
    blank,
    image_paths,
    kind_of,
    missing,
    parsed,
    pick,
    text,
)

_CODE = frozenset(
    [
        *("python", "py", "java", "javascript", "js", "typescript", "ts", "c", "c++", "cpp", "c#", "csharp", "cs"),
        *("go", "golang", "rust", "rs", "ruby", "rb", "php", "swift", "kotlin", "scala", "r", "julia", "perl", "lua"),
        *("haskell", "dart", "bash", "shell", "sh", "sql", "html", "css", "matlab", "fortran", "elixir", "erlang"),
    ]
)


def code(record: Record, origin: Origin) -> Example:
    """Alpaca about code: input and output are fenced with their language, unless they are fenced already."""
    language = text(record, "lang").strip()
    if language.lower() not in _CODE:
        return alpaca(record, origin)
    fenced = {key: _fence(text(record, key), language) for key in ("input", "output") if key in record}
    return alpaca({**record, **fenced}, origin)


def _fence(code: str, language: str) -> str:
    return code if blank(code) or "```" in code else f"```{language}\n{code}\n```"


def functions(record: Record, origin: Origin) -> Example:
    """A request, the tools offered, and the calls that answer it."""
    said = text(record, pick(record, ("response", "output", "assistant")))
    calls = read_calls(record.get("function_call"), "function_call") or read_calls(record.get("answers"), "answers")
    answer = [thoughtful(record, said, calls)]
    if "messages" in record:
        turns, images = read_turns(record["messages"], "messages")
        return converse(record, origin, [*turns, *answer], images)
    key = pick(record, ("prompt", "query", "question", "instruction", "input", "user", "text"))
    return converse(record, origin, [turn("user", text(record, key)), *answer])


def preferred(record: Record, origin: Origin) -> Example:
    """The chosen answer of a pair, after the prompt of the record if it has one."""
    key = pick(record, ("chosen_messages", "chosen"))
    chosen = parsed(record.get(key))
    if isinstance(chosen, Mapping):
        chosen = [chosen]
    before, seen = _asked_before(record)
    if not isinstance(chosen, list | tuple):
        said = text(record, key)
        if blank(said):
            raise SkipRecord(f"{key} is empty")
        if not before and all(absent(record.get(key)) for key in ACCOMPANYING):
            return plain({"text": said}, origin)
        return converse(record, origin, [*before, thoughtful(record, said)], seen)
    turns, images = spoken_turns(chosen, key)
    before, seen = _not_repeated(before, seen, turns)
    return converse(record, origin, [*before, *turns], [*seen, *images])


def _not_repeated(before: list[Turn], seen: list[str], turns: list[Turn]) -> tuple[list[Turn], list[str]]:
    """What goes before a chosen conversation and is not in it, which may begin with all of it or with its end."""
    if not any(each[0] == "user" for each in turns):
        return before, seen
    same = next((n for n in range(len(before), 0, -1) if before[-n:] == turns[:n]), 0)
    own = any(each[0] == "system" for each in turns)
    systems = [each for each in before if each[0] == "system" and not own]
    before = before[:-same] if same else systems
    return before, seen[: sum(each[1].count(IMAGE_MARK) for each in before)]


def _asked_before(record: Record) -> tuple[list[Turn], list[str]]:
    for key in ("messages", "conversations", "prompt"):
        talk = record.get(key)
        if isinstance(talk, str) and isinstance(read := parsed(talk), list) and all(type(t) is dict for t in read):
            talk = read or talk
        if isinstance(talk, list | tuple):
            return spoken_turns(talk, key)
    key = pick(record, ("prompt", "instruction", "question", "query", "user", "human", "request", "problem"))
    said, context = text(record, key), text(record, "input")
    if not blank(context):
        said = below(said, context)
    return ([], []) if blank(said) else ([turn("user", said)], [])


RATED = ("prompt response", "prompt answer", "input output", "query response", "question answer", "question response")
"""Pairs that people rate."""


def labelled(record: Record, origin: Origin) -> Example:
    """An answer that somebody rated good or bad. Raises SkipRecord for the bad ones."""
    key = pick(record, ("label", "kto_tag"))
    said = record.get(key)
    if missing(said):
        raise SkipRecord(f"{key} is null, so the answer is not rated")
    good = verdict(said)
    if good is None:
        raise SkipRecord(f"{key} is neither true nor false")
    if not good:
        raise SkipRecord(f"{key} is false")
    kinds: Mapping[str, Convert] = {
        "messages": openai,
        "conversations": sharegpt,
        "instruction": alpaca,
        "completion": two_lists if isinstance(record.get("prompt"), list | tuple) else continuation,
        "question": question,
    }
    return next((convert for name, convert in kinds.items() if name in record), pair)(record, origin)


def captioned(record: Record, origin: Origin) -> Example:
    """An image and what is said about it: the image is the question."""
    key = pick(record, ("caption", "text"))
    caption = best_answer(record.get(key), key)
    file = pick(record, (*IMAGES, "file_name"))
    images = image_paths(record.get(file), file)
    if not images:
        raise SkipRecord(f"{file} is empty")
    marks = "\n".join([IMAGE_MARK] * len(images))
    return exchange(
        {**record, "images": images, "image": None, "image_path": None}, origin, marks, caption, (file, key)
    )


def squad_questions(record: Record) -> Iterator[Record]:
    """Each question of a SQuAD article or paragraph as a record, with the text it is about. Raises SkipRecord."""
    paragraphs = as_list(record["paragraphs"], "paragraphs") if "paragraphs" in record else [record]
    for paragraph in paragraphs:
        if not isinstance(paragraph, Mapping):
            raise SkipRecord(f"a paragraph is {kind_of(paragraph)} where an object is expected")
        for asked_about in as_list(paragraph.get("qas"), "qas"):
            if not isinstance(asked_about, Mapping):
                raise SkipRecord(f"a question is {kind_of(asked_about)} where an object is expected")
            yield {**asked_about, "context": paragraph.get("context")}
