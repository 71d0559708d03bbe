"""How a record of each kind becomes an Example; table.py says which record is of which kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.core.text import counted
from llm_installer.data.formats.conversation import mark_images, messages, normalised, refuse_lost_images
from llm_installer.data.formats.tools import Call, read_tools
from llm_installer.data.formats.turns import NO_EXTRAS, THOUGHTS, Extras, Turn, is_thought, read_turns, thought, turn
from llm_installer.data.formats.values import (
    Record,
    SkipRecord,
    absent,
    as_list,
    best_answer,
    blank,
    image_paths,
    parsed,
    pick,
    text,
)

Convert = Callable[[Record, Origin], Example]
Frame = Callable[[str, str], str]

IMAGES = ("images", "image", "image_path")
_OTHER_MEDIA = ("videos", "video", "audios", "audio")
FLAT_THOUGHTS = (*THOUGHTS, "chain_of_thought", "complex_cot", "cot")
"""Keys of a thought beside a question and its answer."""
# What may accompany a question and its answer; a record without any of it takes the short way.
_SYSTEM = ("system", "system_prompt", "system_message", "system_instruction")
ACCOMPANYING = frozenset({*_SYSTEM, "history", "tools", "functions", *FLAT_THOUGHTS, *IMAGES, *_OTHER_MEDIA})


def converse(record: Record, origin: Origin, turns: Sequence[Turn], inside: Sequence[str] = ()) -> Example:
    """A chat out of turns, with the record's own system prompt, history, images and tools.

    `inside` are the paths of the images inside the turns, "" for those that the record's own list is to fill. Raises
    SkipRecord when nothing in it can be trained on.
    """
    for key in _OTHER_MEDIA:
        if not absent(record.get(key)):
            raise SkipRecord(f"the record has {key}, and only text and images can be trained on")
    before = _system(record)
    if before and turns and turns[0] == before[0]:
        before = []
    past, past_images = read_turns(None if absent(record.get("history")) else record["history"], "history")
    settled = normalised([*before, *past, *turns])
    images = _fill([*past_images, *inside], [path for key in IMAGES for path in image_paths(record.get(key), key)])
    settled = mark_images(settled, len(images))
    tools = read_tools(record.get("tools"), "tools") or read_tools(record.get("functions"), "functions")
    return Example(messages(settled), origin, "chat", tools, tuple(images))


def _system(record: Record) -> list[Turn]:
    said = next(filter(None, (text(record, key) for key in _SYSTEM)), "")
    return [] if blank(said) else [turn("system", said)]


def _fill(inside: Sequence[str], beside: list[str]) -> list[str]:
    """Paths in the order of the image marks: those inside the turns, gaps filled from the record's own list."""
    gaps = inside.count("")
    if not gaps:
        return [*inside, *beside]
    if gaps != len(beside):
        raise SkipRecord(f"the turns show {counted(gaps, 'image')} without a path, and the record names {len(beside)}")
    rest = iter(beside)
    return [path or next(rest) for path in inside]


def exchange(record: Record, origin: Origin, prompt: str, answer: str, names: tuple[str, str]) -> Example:
    """A question and its answer as a chat; `names` are the keys they came from. Raises SkipRecord when one is empty."""
    if blank(answer):
        raise SkipRecord(f"{names[1]} is empty")
    if blank(prompt):
        raise SkipRecord(f"{names[0]} is empty")
    if record.keys().isdisjoint(ACCOMPANYING):
        refuse_lost_images((prompt,))
        return Example((Message("user", prompt), Message("assistant", answer)), origin)
    return converse(record, origin, [turn("user", prompt), thoughtful(record, answer)])


def thoughtful(record: Record, answer: str, calls: tuple[Call, ...] = ()) -> Turn:
    """The answer of a record with the thought beside it, if there is one."""
    thoughts = [record[key] for key in FLAT_THOUGHTS if is_thought(record.get(key)) and "<think>" not in answer]
    return "assistant", answer, calls, Extras(reasoning=thought(thoughts[0], "the answer")) if thoughts else NO_EXTRAS


def below(prompt: str, context: str) -> str:
    """Alpaca: the input under the instruction, or alone."""
    return context if blank(prompt) else f"{prompt}\n\n{context}"


def below_named(prompt: str, context: str) -> str:
    """Dolly: the context under the instruction, by name."""
    return "" if blank(prompt) else f"{prompt}\n\nContext: {context}"


def above_named(prompt: str, context: str) -> str:
    """Questions about a text: the text first."""
    return "" if blank(prompt) else f"Context: {context}\n\nQuestion: {prompt}"


def asked(prompts: Sequence[str], answers: Sequence[str], context: str = "", frame: Frame = below) -> Convert:
    """A converter for records with a question, an answer and perhaps a context, under the first of these keys."""

    def convert(record: Record, origin: Origin) -> Example:
        names = pick(record, prompts), pick(record, answers)
        prompt, answer = text(record, names[0]), text(record, names[1])
        beside = text(record, context) if context in record else ""
        return exchange(record, origin, prompt if blank(beside) else frame(prompt, beside), answer, names)

    return convert


_REPLIES = ("response", "output", "reply", "target")


def question(record: Record, origin: Origin) -> Example:
    """A question with one or several right answers, perhaps about a context. The first answer is trained on."""
    asks = pick(record, ("question", "query", "problem"))
    # The solution of a problem ends in its answer; the answer alone would teach the model to skip the reasoning.
    says = pick(record, ("solution", "answer") if asks == "problem" else ("answer", "answers", *_REPLIES))
    given = record.get(says)
    several = says == "answers"
    if several and isinstance(given := parsed(given), str) and given[:1] in ("[", "{"):
        raise SkipRecord("answers is text that is not JSON")
    answer = best_answer(given, says)
    if (several and blank(answer)) or answer == "CANNOTANSWER" or record.get("is_impossible") is True:
        raise SkipRecord("the question has no answer in its text")
    prompt, context = text(record, asks), text(record, "context")
    return exchange(record, origin, prompt if blank(context) else above_named(prompt, context), answer, (asks, says))


def conversation(keys: Sequence[str]) -> Convert:
    """A converter for records that hold a list of turns under the first of these keys."""

    def convert(record: Record, origin: Origin) -> Example:
        key = pick(record, keys)
        turns, images = read_turns(record.get(key), key)
        if not turns:
            raise SkipRecord(f"{key} is empty")
        if images or not record.keys().isdisjoint(ACCOMPANYING):
            return converse(record, origin, turns, images)
        return Example(messages(mark_images(normalised(turns), 0)), origin)

    return convert


def turns_of_two(record: Record, origin: Origin) -> Example:
    """`turns` that say who speaks. Plain strings are refused: some datasets list questions only."""
    turns = as_list(record.get("turns"), "turns")
    if turns and isinstance(turns[0], str):
        raise SkipRecord("turns holds plain strings, which do not say who speaks")
    return _by_turns(record, origin)


_by_turns = conversation(("turns",))


def spoken_turns(value: object, key: str) -> tuple[list[Turn], list[str]]:
    """read_turns for turns that say who speaks: a list of texts is rather a column of a table."""
    turns = as_list(value, key)
    if any(isinstance(each, str) for each in turns):
        raise SkipRecord(f"{key} holds plain strings, which do not say who speaks")
    return read_turns(turns, key)


def two_lists(record: Record, origin: Origin) -> Example:
    """A prompt and a completion that are both lists of messages."""
    turns, images = spoken_turns(record.get("prompt"), "prompt")
    rest, more = spoken_turns(record.get("completion"), "completion")
    return converse(record, origin, [*turns, *rest], [*images, *more])


def plain(record: Record, origin: Origin) -> Example:
    """Text without questions and answers, trained on as it is."""
    said = text(record, "text")
    if blank(said):
        raise SkipRecord("text is empty")
    return Example((Message("assistant", said),), origin, "text")


openai = conversation(("messages",))
sharegpt = conversation(("conversations", "conversation", "items", "dialog", "dialogue"))
alpaca = asked(("instruction",), ("output", "response", "completion", "answer"), "input")
