"""From the turns of a record to the messages of an example.

What happens to odd conversations, in one place:
- consecutive turns of one role are joined by a blank line (tool results are not; a call stays before what follows it);
- a system turn after the first becomes a user turn, since most templates have one place for it;
- empty user and system turns are removed, and so is everything after the last answer;
- a conversation may open with the assistant: that greeting is context for what follows;
- an answer of weight 0 is context; everything after the last answer that is trained on is removed too;
- a record without images is skipped when <image> begins or ends a line of a prompt, unless it is code;
- a record with an empty answer before other answers, or with no answer at all, is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llm_installer.core.examples import Message, Role
from llm_installer.core.text import counted
from llm_installer.data.formats.tools import dump
from llm_installer.data.formats.turns import IMAGE_MARK, NO_EXTRAS, Extras, Turn
from llm_installer.data.formats.values import SkipRecord, blank

_CODE = re.compile(r"```.*?(```|\Z)|`[^`\n]*`|<image>(?=(?:(?!<image>).)*?</image>)", re.DOTALL)
"""Where <image> is no picture: in fences and between backticks, and as an element that is closed."""
_AT_AN_EDGE = re.compile(r"^\W*<image>|<image>[^\w<]*$", re.MULTILINE)


def normalised(turns: Iterable[Turn]) -> list[Turn]:
    """The turns as they are trained on, by the rules at the top of this file. Raises SkipRecord when none remains."""
    kept: list[Turn] = []
    last: Role | None = None
    silent = False
    for each in turns:
        role, said, calls, extras = each
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
            extras = _joined(before[3], extras)
        kept.append((role, said, calls, extras))
        last = role
    return _ended(kept, silent)


def _joined(first: Extras, second: Extras) -> Extras:
    if first.supervised != second.supervised:
        raise SkipRecord("an answer of weight 0 directly follows or precedes one that is trained on")
    thought = "\n\n".join(filter(None, [first.reasoning, second.reasoning]))
    return Extras(first.supervised, "", thought)


def _ended(kept: list[Turn], silent: bool) -> list[Turn]:
    """The turns up to the last that is trained on."""
    if kept and not silent and kept[-1][0] == "assistant" and kept[-1][3].supervised:  # most end so
        return kept
    answers = [each for each in kept if each[0] == "assistant"]
    while kept and (kept[-1][0] != "assistant" or not kept[-1][3].supervised or (silent and _is_silent(kept[-1]))):
        kept.pop()
    if not kept:
        raise SkipRecord(_no_answer(answers))
    if silent and any(map(_is_silent, kept)):
        raise SkipRecord("an assistant turn in the middle is empty")
    return kept


def _no_answer(answers: Sequence[Turn]) -> str:
    if not answers:
        return "no assistant turn"
    return "the answer is empty" if any(each[3].supervised for each in answers) else "none of its answers counts"


def _is_silent(each: Turn) -> bool:
    return each[0] == "assistant" and not each[2] and blank(each[1])


def mark_images(turns: list[Turn], images: int) -> list[Turn]:
    """Turns with as many <image> marks as there are images; images without marks go to the first user turn.

    Raises SkipRecord when there are marks, but not one for each image, or no user turn.
    """
    marks = sum(said.count(IMAGE_MARK) for _, said, _, _ in turns)
    if marks == images:
        return turns
    if not images:
        refuse_lost_images([said for role, said, _, _ in turns if role != "assistant"])
        return turns
    if marks:
        raise SkipRecord(f"the text has {counted(marks, f'{IMAGE_MARK} mark')} for {counted(images, 'image')}")
    marks_text = "\n".join([IMAGE_MARK] * images)
    for place, (role, said, calls, extras) in enumerate(turns):
        if role == "user":
            return [*turns[:place], (role, f"{marks_text}\n{said}", calls, extras), *turns[place + 1 :]]
    raise SkipRecord("there is no user turn that the images could belong to")


def refuse_lost_images(prompts: Iterable[str]) -> None:
    """Raises SkipRecord for <image> in prompts of a record without images: the answer speaks of what nobody can see.

    A picture stands at the beginning or end of a line. In the middle of a sentence, and as code (between backticks, or
    closed by </image>), it is a word like others and stays text.
    """
    texts = [_CODE.sub("", said) for said in prompts if IMAGE_MARK in said]
    if any(map(_AT_AN_EDGE.search, texts)):
        lost = sum(said.count(IMAGE_MARK) for said in texts)
        raise SkipRecord(f"the text has {counted(lost, f'{IMAGE_MARK} mark')}, and the record names no image")


def messages(turns: Iterable[Turn]) -> tuple[Message, ...]:
    """The turns as messages of an example. Raises SkipRecord for tool calls that JSON cannot hold."""
    return tuple(
        [
            Message(role, said)
            if not calls and extras is NO_EXTRAS
            else Message(role, said, dump(calls) if calls else "", *extras)
            for role, said, calls, extras in turns
        ]
    )
