"""Turns in every spelling: who speaks, what they say, the tools they call, the images they show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

from llm_installer.core.examples import Role
from llm_installer.core.text import shortened
from llm_installer.data.formats.tools import Call, read_calls
from llm_installer.data.formats.values import (
    SkipRecord,
    as_list,
    image_path,
    kind_of,
    missing,
    parsed,
    render,
)

IMAGE_MARK = "<image>"


class Extras(NamedTuple):
    """What few turns have; the fields are those of Message."""

    supervised: bool = True
    tool_call_id: str = ""
    reasoning: str = ""


NO_EXTRAS = Extras()
Turn = tuple[Role, str, tuple[Call, ...], Extras]
"""Role, content, tool calls, and the rest. A tuple, since there are millions and making a class takes longer."""

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
"""Names under which 0 or false says that an answer is not trained on."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")
_IMAGE_PARTS = {"image", "image_url", "input_image"}
_TEXT_PARTS = {"text", "input_text", "output_text"}
_OTHER_MEDIA = {"audio", "audio_url", "input_audio", "video", "video_url"}


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
    if any(key in item for key in _SPEAKER):
        return [_spoken_turn(item, where, images)]
    for asked, answered in _PAIRS:
        if asked in item and answered in item:
            question, answer = render(item[asked], where), render(item[answered], where)
            return [turn("user", question), turn("assistant", answer)]
    raise SkipRecord(f"{where} does not say who speaks, by 'role' or 'from'")


def _spoken_turn(item: Mapping[str, object], where: str, images: list[str]) -> Turn:
    speaker = next((item[key] for key in _SPEAKER if key in item), None)
    if not isinstance(speaker, str):
        raise SkipRecord(f"{where} does not say who speaks, by 'role' or 'from'")
    role = ROLES.get(speaker) or ROLES.get(speaker.strip().lower())
    if role is None:
        raise SkipRecord(f"{where} has the unknown role '{shortened(speaker, 40)}'")
    said = next((item[key] for key in _SAID if item.get(key) is not None), None)
    if role == "call":
        return _call_turn(said, where)
    calls = read_calls(item.get("tool_calls"), f"tool_calls of {where}")
    calls += read_calls(item.get("function_call"), f"function_call of {where}")
    return role, _spoken(said, where, images), calls if role == "assistant" else (), _extras(item, role, where)


def _extras(item: Mapping[str, object], role: Role, where: str) -> Extras:
    if role == "assistant":
        thought = next((item[key] for key in _THOUGHTS if item.get(key) is not None), None)
        learn = not any(item.get(key) in (0, "0", "false", "False") for key in _WEIGHTS)
        return Extras(learn, "", thought if isinstance(thought, str) else render(thought, f"the reasoning of {where}"))
    if role == "tool" and isinstance(item.get("tool_call_id"), str):
        return Extras(tool_call_id=str(item["tool_call_id"]))
    return NO_EXTRAS


def _call_turn(said: object, where: str) -> Turn:
    """A turn that is a tool call. A call that is not JSON is trained on as the text it is."""
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
        raise SkipRecord(f"a part of {where} has no 'type'")
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
        raise SkipRecord(f"{where} has a part of type {kind}, and only text and images can be trained on")
    raise SkipRecord(f"{where} has a part of the unknown type '{shortened(kind, 40)}'")
