"""Conversations in every spelling, as one list of turns.

What happens to odd conversations, in one place:
- turns of one role in a row are joined by a blank line (tool results are not; a call stays in front of what follows);
- a system turn later than the first becomes a user turn, since most templates know only one place for it;
- empty user and system turns are left out; what follows the last answer is left out;
- a conversation may open with the assistant: that greeting is context for what follows;
- an answer of weight 0 is context: what follows the last learned one is left out too;
- an empty answer between others, or no answer at all, makes the record unteachable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, cast

from llm_installer.core.examples import Message, Role
from llm_installer.data.formats.tools import Call, dump, read_calls
from llm_installer.data.formats.values import (
    Unteachable,
    blank,
    image_path,
    kind_of,
    listed,
    missing,
    parsed,
    render,
)

IMAGE_MARK = "<image>"


class Aside(NamedTuple):
    """What a few turns say besides."""

    learn: bool = True
    """False for an answer that is only context."""
    tool_call_id: str = ""
    reasoning: str = ""


NOTHING_ASIDE = Aside()
Turn = tuple[Role, str, tuple[Call, ...], Aside]
"""Who speaks, what they say, the tools they call, and what else the turn says."""

_ROLES: Mapping[Role | Literal["call"], tuple[str, ...]] = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "model", "bot", "chatgpt", "bard", "bing", "claude"),
    "tool": ("tool", "function", "observation", "ipython", "tool_response", "function_response", "tool_result"),
    "call": ("function_call", "tool_call"),
}
ROLES = {name: role for role, names in _ROLES.items() for name in names}

_PAIRS = (
    ("user", "assistant"),
    ("human", "assistant"),
    ("Human", "Assistant"),
    ("human", "gpt"),
    ("input", "output"),
    ("prompt", "response"),
    ("query", "response"),
    ("question", "answer"),
    ("instruction", "output"),
)
_SPEAKER = ("role", "from")
_SAID = ("content", "value", "text")
_WEIGHTS = ("weight", "loss_weight", "loss", "train", "learn")
"""Names under which 0 or false says that an answer is not learned."""
_IMAGE_PARTS = {"image", "image_url", "input_image"}
_TEXT_PARTS = {"text", "input_text", "output_text"}
_OTHER_MEDIA = {"audio", "audio_url", "input_audio", "video", "video_url"}


def turn(role: Role, said: str, calls: tuple[Call, ...] = ()) -> Turn:
    """A turn with nothing aside."""
    return role, said, calls, NOTHING_ASIDE


def read_turns(value: object, key: str) -> tuple[list[Turn], list[str]]:
    """The turns under `key` and the images named inside them, in order, an <image> mark standing where each was.

    An image part that names no file gives an empty path: the record's own list of images is to fill it.
    """
    turns: list[Turn] = []
    images: list[str] = []
    for number, item in enumerate(listed(value, key)):
        if type(item) is dict and len(item) == 2:
            speaker = item["role"] if "role" in item else item.get("from")
            said = item["content"] if "content" in item else item.get("value")
            role = ROLES.get(speaker) if type(speaker) is str else None
            if role is not None and role != "call" and type(said) is str:
                turns.append((role, said, (), NOTHING_ASIDE))
                continue
        turns += _read_turn(item, number, images)
    return turns, images


def _read_turn(item: object, number: int, images: list[str]) -> list[Turn]:
    where = f"turn {number + 1}"
    if isinstance(item, str):
        return [turn("assistant" if number % 2 else "user", item)]
    if isinstance(item, list | tuple) and len(item) == 2:
        return [turn("user", render(item[0], where)), turn("assistant", render(item[1], where))]
    if not isinstance(item, Mapping):
        raise Unteachable(f"{where} is {kind_of(item)} where a turn is expected")
    if any(key in item for key in _SPEAKER):
        return [_spoken_turn(item, where, images)]
    for asked, answered in _PAIRS:
        if asked in item and answered in item:
            question, answer = render(item[asked], where), render(item[answered], where)
            return [turn("user", question), turn("assistant", answer)]
    raise Unteachable(f"{where} does not say who speaks, by 'role' or 'from'")


def _spoken_turn(item: Mapping[str, object], where: str, images: list[str]) -> Turn:
    speaker = next((item[key] for key in _SPEAKER if key in item), None)
    if not isinstance(speaker, str):
        raise Unteachable(f"{where} does not say who speaks, by 'role' or 'from'")
    role = ROLES.get(speaker) or ROLES.get(speaker.strip().lower())
    if role is None:
        raise Unteachable(f"{where} has the unknown role '{speaker[:40]}'")
    said = next((item[key] for key in _SAID if item.get(key) is not None), None)
    if role == "call":
        return _call_turn(said, where)
    calls = read_calls(item.get("tool_calls"), f"tool_calls of {where}")
    calls += read_calls(item.get("function_call"), f"function_call of {where}")
    return role, _spoken(said, where, images), calls if role == "assistant" else (), _aside(item, role, where)


def _aside(item: Mapping[str, object], role: Role, where: str) -> Aside:
    if role == "assistant":
        thought = next((item[key] for key in ("reasoning_content", "reasoning") if item.get(key) is not None), None)
        learn = not any(item.get(key) in (0, "0", "false", "False") for key in _WEIGHTS)
        return Aside(learn, "", thought if isinstance(thought, str) else render(thought, f"the reasoning of {where}"))
    if role == "tool" and isinstance(item.get("tool_call_id"), str):
        return Aside(tool_call_id=str(item["tool_call_id"]))
    return NOTHING_ASIDE


def _call_turn(said: object, where: str) -> Turn:
    """A turn that is a tool call. A call that is not JSON is taught as the text it is."""
    if isinstance(parsed(said), str):
        return turn("assistant", cast(str, said))
    return turn("assistant", "", read_calls(said, where))


def _spoken(said: object, where: str, images: list[str]) -> str:
    if isinstance(said, list | tuple):
        return "".join(_part(part, where, images) for part in said)
    return render(said, f"the content of {where}")


def _part(part: object, where: str, images: list[str]) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise Unteachable(f"a part of {where} has no 'type'")
    kind = str(part["type"])
    values = [
        part[key] for key in (kind, "text", "value", "image_url", "image", "path", "url") if not missing(part.get(key))
    ]
    if kind in _TEXT_PARTS:
        return render(values[0] if values else None, f"the text of {where}")
    if kind in _IMAGE_PARTS:
        images.append(image_path(values[0], f"an image of {where}") if values else "")
        return IMAGE_MARK
    if kind in _OTHER_MEDIA:
        raise Unteachable(f"{where} has a part of type {kind}, and only text and images can be learned")
    raise Unteachable(f"{where} has a part of the unknown type '{kind[:40]}'")


def settle(turns: Iterable[Turn]) -> list[Turn]:
    """The turns as they will be taught, by the rules at the top of this file. Raises Unteachable when none remains."""
    kept: list[Turn] = []
    last: Role | None = None
    silent = False
    for each in turns:
        role, said, calls, aside = each
        empty = not said or said.isspace()
        if role != last and role != "system" and not empty:  # the ordinary turn, and most are
            kept.append(each)
            last = role
            continue
        if role == "system" and last not in (None, "system"):
            role = "user"
        if empty and role == "assistant":
            silent = silent or not calls
        elif empty and role != "tool":
            continue
        if role == last and role != "tool" and not kept[-1][2]:
            before = kept.pop()
            said = "\n\n".join(part for part in (before[1], said) if not blank(part))
            aside = _joined(before[3], aside)
        kept.append((role, said, calls, aside))
        last = role
    return _ended(kept, silent)


def _joined(first: Aside, second: Aside) -> Aside:
    if first.learn != second.learn:
        raise Unteachable("an answer of weight 0 and one that is learned stand in one turn")
    thought = "\n\n".join(filter(None, [first.reasoning, second.reasoning]))
    return Aside(first.learn, "", thought)


def _ended(kept: list[Turn], silent: bool) -> list[Turn]:
    """The turns up to the last that is learned."""
    if kept and not silent and kept[-1][0] == "assistant" and kept[-1][3].learn:  # most end so
        return kept
    answers = [each for each in kept if each[0] == "assistant"]
    while kept and (kept[-1][0] != "assistant" or not kept[-1][3].learn or (silent and _is_silent(kept[-1]))):
        kept.pop()
    if not kept:
        raise Unteachable(_nothing_learned(answers))
    if silent and any(map(_is_silent, kept)):
        raise Unteachable("an assistant turn in the middle is empty")
    return kept


def _nothing_learned(answers: Sequence[Turn]) -> str:
    if not answers:
        return "no assistant turn"
    return "the answer is empty" if any(each[3].learn for each in answers) else "every answer has weight 0"


def _is_silent(each: Turn) -> bool:
    return each[0] == "assistant" and not each[2] and blank(each[1])


def mark_images(turns: list[Turn], images: int) -> list[Turn]:
    """Turns with as many <image> marks as there are images; unmarked images belong to the first user turn."""
    marks = sum(said.count(IMAGE_MARK) for _, said, _, _ in turns)
    if marks == images:
        return turns
    if marks:
        raise Unteachable(f"the number of {IMAGE_MARK} marks ({marks}) and of images ({images}) differ")
    marks_text = "\n".join([IMAGE_MARK] * images)
    for place, (role, said, calls, aside) in enumerate(turns):
        if role == "user":
            return [*turns[:place], (role, f"{marks_text}\n{said}", calls, aside), *turns[place + 1 :]]
    raise Unteachable("the images belong to no user turn")


def messages(turns: Iterable[Turn]) -> tuple[Message, ...]:
    """The turns as the encoder takes them."""
    return tuple(
        [
            Message(role, said)
            if not calls and aside is NOTHING_ASIDE
            else Message(role, said, dump(calls) if calls else "", *aside)
            for role, said, calls, aside in turns
        ]
    )
