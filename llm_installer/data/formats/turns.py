"""Turns in every spelling: who speaks, what they say, the tools they call, the images they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, cast

from llm_installer.core.examples import Role
from llm_installer.core.text import counted, shortened
from llm_installer.data.formats.learning import ALL, counts
from llm_installer.data.formats.names import bare, by_known_names
from llm_installer.data.formats.parts import IMAGE_MARK as IMAGE_MARK
from llm_installer.data.formats.parts import read_parts
from llm_installer.data.formats.speakers import PAIRS, ROLES, SAID, SPEAKER
from llm_installer.data.formats.tools import Call, read_calls
from llm_installer.data.formats.values import (
    SkipRecord,
    absent,
    as_list,
    image_paths,
    kind_of,
    parsed,
    render,
)


class Extras(NamedTuple):
    """What few turns have; the fields are those of Message."""

    supervised: bool = True
    tool_call_id: str = ""
    reasoning: str = ""


NO_EXTRAS = Extras()
Turn = tuple[Role, str, tuple[Call, ...], Extras]
"""Role, content, tool calls, and the rest. A tuple, since there are millions and making a class takes longer."""

THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "thinking_content")
"""Keys of what comes before an answer."""
_PICTURES = ("images", "image")
"""Pictures of a turn beside its text, as some chat programs keep them."""
_OTHERS = frozenset(
    [
        *("id", "idx", "index", "name", "type", "turn", "turnid", "messageid", "uuid", "timestamp", "time", "date"),
        *("created", "createdat", "createtime", "lang", "language", "model", "meta", "metadata", "refusal"),
        *("annotations", "toolname", "status", "endturn", "recipient", "author"),
    ]
)
"""Keys, bare, that say who, when or where, and nothing that could be trained on."""
_TURN = (*SPEAKER, *SAID, *THOUGHTS, *_PICTURES, "tool_calls", "function_call", "tool_call_id")
_KNOWN = (*_TURN, *(side for pair in PAIRS for side in pair if side.islower()))
_READ = frozenset([*map(bare, _TURN), *ALL, *_OTHERS])
_ONE_SIDE = frozenset(map(bare, (*_PICTURES, "tool_calls", "function_call", "system", "context", "history")))
_SPEAKS = frozenset([*SPEAKER, *map(str.title, SPEAKER)])


_SETTINGS = frozenset(
    ["on", "off", "yes", "no", "true", "false", "low", "medium", "high", "auto", "enabled", "disabled"]
)
"""Words at such a key that say how much was thought, and are no thought."""


def turn(role: Role, said: str, calls: tuple[Call, ...] = ()) -> Turn:
    """A turn without extras."""
    return role, said, calls, NO_EXTRAS


def read_turns(value: object, key: str) -> tuple[list[Turn], list[str]]:
    """The turns in `value` and the paths of the images inside them, in order; each image leaves an <image> mark.

    `key` is where the record has them, for messages. An image part without a file gives an empty path, which the
    record's own list of images fills. Raises SkipRecord for a turn that cannot be read.
    """
    turns: list[Turn] = []
    images: list[str] = []
    for number, item in enumerate(as_list(value, key)):
        if type(item) is dict and len(item) == 2:
            speaker = item["role"] if "role" in item else item.get("from")
            said = item["content"] if "content" in item else item.get("value")
            role = ROLES.get(speaker) if type(speaker) is str else None
            if role is not None and role != "call" and type(said) is str:
                turns.append((role, said, (), NO_EXTRAS))
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
        raise SkipRecord(f"{where} is {kind_of(item)} where a turn is expected")
    item = by_known_names(item, _KNOWN)
    if any(key in item for key in SPEAKER):
        return [_spoken_turn(item, where, images)]
    for asked, answered in PAIRS:
        if asked in item and answered in item:
            question, answer = render(item[asked], where), render(item[answered], where)
            return [turn("user", question), ("assistant", answer, (), _extras(item, "assistant", where))]
    raise SkipRecord(f"{where} does not say who speaks, by 'role' or 'from'")


def _spoken_turn(item: Mapping[str, object], where: str, images: list[str]) -> Turn:
    speaker = next((item[key] for key in SPEAKER if key in item), None)
    if not isinstance(speaker, str):
        raise SkipRecord(f"{where} does not say who speaks, by 'role' or 'from'")
    role = ROLES.get(speaker) or ROLES.get(speaker.strip().lower())
    if role is None:
        raise SkipRecord(f"{where} has the unknown role '{shortened(speaker, 40)}'")
    said = next((item[key] for key in SAID if item.get(key) is not None), None)
    if role == "call":
        return _call_turn(said, where, _extras(item, "assistant", where))
    calls = read_calls(item.get("tool_calls"), f"tool_calls of {where}")
    calls += read_calls(item.get("function_call"), f"function_call of {where}")
    start, thoughts = len(images), ""
    if isinstance(said, list | tuple):
        content, thoughts = read_parts(said, where, images)
    else:
        content = render(said, f"the content of {where}")
    content = _with_pictures(content, item, where, images, start)
    extras = _extras(item, role, where, thoughts)
    if masked_parts(said) and role == "assistant":
        extras = extras._replace(supervised=False)
    return role, content, calls if role == "assistant" else (), extras


def _extras(item: Mapping[str, object], role: Role, where: str, thoughts: str = "") -> Extras:
    if role == "assistant":
        said = next((thought(item[key], where) for key in THOUGHTS if is_thought(item.get(key))), thoughts)
        found = Extras(counts(item), "", said)
        return NO_EXTRAS if found == NO_EXTRAS else found
    if role == "tool" and isinstance(item.get("tool_call_id"), str):
        return Extras(tool_call_id=str(item["tool_call_id"]))
    return NO_EXTRAS


def masked_parts(said: object) -> bool:
    """Whether a part of what is said is not to be trained on, as its own keys say."""
    return isinstance(said, list | tuple) and not all(counts(part) for part in said if isinstance(part, Mapping))


def is_thought(value: object) -> bool:
    """Whether a value at a key for thoughts holds one."""
    if isinstance(value, bool) or absent(value):
        return False
    return not isinstance(value, str) or value.strip().lower() not in _SETTINGS


def thought(value: object, where: str) -> str:
    """The text of a thought, which may come in parts. Raises SkipRecord for what is no text."""
    if isinstance(value, list | tuple):
        return "\n\n".join(render(part, f"a part of the reasoning of {where}") for part in value)
    return render(value, f"the reasoning of {where}")


def _call_turn(said: object, where: str, extras: Extras) -> Turn:
    """A turn that is a tool call. A call that is not JSON is trained on as the text it is."""
    if isinstance(parsed(said), str):
        return "assistant", cast(str, said), (), extras
    return "assistant", "", read_calls(said, where), extras


def _with_pictures(said: str, item: Mapping[str, object], where: str, images: list[str], start: int) -> str:
    """The text of a turn with a mark for each picture that stands beside it; `images[start:]` are those inside it."""
    beside = [path for key in _PICTURES for path in image_paths(item.get(key), f"{key} of {where}")]
    if not beside:
        return said
    if images[start:].count("") == len(beside):
        rest = iter(beside)
        images[start:] = [path or next(rest) for path in images[start:]]
        return said
    marks = said.count(IMAGE_MARK) - len(images[start:])
    if marks not in (0, len(beside)):
        raise SkipRecord(f"{where} has {counted(marks, f'{IMAGE_MARK} mark')} for {counted(len(beside), 'image')}")
    images += beside
    return said if marks else "\n".join([*[IMAGE_MARK] * len(beside), said])


def spoken(value: object) -> Iterator[Mapping[str, object]]:
    """The turns in a list of turns that have more to say than a role and a text."""
    for item in value if isinstance(value, list | tuple) else ():
        if not isinstance(item, Mapping) or (_SPEAKS.isdisjoint(item) and not _beside_both(item)):
            continue
        if len(item) > 2 or type(item.get("content")) is list:
            yield item


def unread_keys(item: Mapping[str, object]) -> list[str]:
    """The keys of a turn that nothing is made of."""
    lost = _beside_both(item) if _SPEAKS.isdisjoint(item) else [key for key in item if not _is_read(key)]
    return [key for key in lost if not absent(item[key])]


def _beside_both(item: Mapping[str, object]) -> list[str]:
    """The keys of a turn with both sides that would be read at a turn of one."""
    sides = {key.lower() for key in item if isinstance(key, str)}
    both = len(item) > 2 and any(asked in sides and answered in sides for asked, answered in PAIRS)
    return [key for key in item if bare(str(key)) in _ONE_SIDE] if both else []


@lru_cache(maxsize=4096)
def _is_read(key: object) -> bool:
    return isinstance(key, str) and bare(key) in _READ
