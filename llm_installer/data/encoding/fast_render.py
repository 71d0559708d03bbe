"""What a chat template writes around the contents of a conversation, found out once, so that most need no rendering.

A frame is trusted only after the template itself has confirmed it on contents made to break it, among them every text
that the template's source mentions. Contents with anything that changed what is written around them, or that looks like
markup the template knows, are rendered by the template.

Delete when rendering a conversation costs no more than tokenising it: FastRenderer.render gives what Template.render
gives, only sooner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeAlias

from llm_installer.data.encoding.chat_template import Render
from llm_installer.data.encoding.template_probes import CannotRender, Mode, Turns

Pieces: TypeAlias = "tuple[str, ...]"
"""The text before, between and after the contents."""

_WORTH_IT = 200
_MOST_TURNS = 6
"""Few longer conversations have the same roles, and confirming a frame takes longer."""
_SHORT = 5
_MARK = "qwertz{}zwtreq"
_HARD = (
    "a", "0", "None", "two words", "line\nline", "one\n\n\ntwo", "tab\tand  spaces", 'quotes " and \' and \\ and \\n',
    "<b> & </b> &amp;", "{{ braces }} {% x %} {# y #}", "caf\u00e9 \u4f60\u597d \U0001f642 e\u0301 \u200d",
    "x\u00a0y\u2003z", "A.b:C,d;e!f?g", "[1] (2) {3} |4| ~5~ #6 @7 $8 %9 ^0 *a _b_ `c`", "MIXED case",
    "x" * 5000, "word " * 2000 + "end",
)  # fmt: skip
_EDGES = (" a", "a ", "\na", "a\n", "\n\n a \n\n", "\ta\t", "\u00a0a\u2003")
_MARKUP = frozenset("<>[]{}|")


class FastRenderer:
    """Renders as the template does, by joining constants and contents where that is known to give the same."""

    def __init__(self, render: Render, source: str, after: int | None = None) -> None:
        """`after`: how often a sequence of roles is rendered before its frame is found, which takes many renderings."""
        self._render = render
        self._after = _WORTH_IT if after is None else after
        self._literals = _literals(source)
        self._markup = tuple(text for text in self._literals if _MARKUP & set(text))
        self._met: Counter[tuple[str, ...]] = Counter()
        self._known: dict[tuple[str, ...], Frame | None] = {}

    def render(self, turns: Turns, tools: object, generation: bool, mode: Mode | None = None) -> str:
        """What the template renders. Raises CannotRender as it does."""
        if mode is None and tools is None and len(turns) <= _MOST_TURNS and all(len(turn) == 2 for turn in turns):
            roles = tuple(str(turn["role"]) for turn in turns)
            contents = [str(turn["content"]) for turn in turns]
            frame = self._frame((*roles, "answer") if generation else roles, roles, generation)
            if frame and frame.fits(contents):
                return frame.join(contents)
        return self._render(turns, tools, generation, mode)

    def _frame(self, key: tuple[str, ...], roles: Sequence[str], generation: bool) -> Frame | None:
        if key in self._known:
            return self._known[key]
        self._met[key] += 1
        if self._met[key] <= self._after:
            return None
        self._known[key] = find_frame(
            lambda contents: self._render(
                [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)],
                None,
                generation,
            ),
            len(roles),
            self._literals,
            self._markup,
        )
        return self._known[key]


class Frame:
    """The constants of one sequence of roles, and which contents they hold for."""

    def __init__(self, pieces: Pieces, tight: bool, special: Sequence[str]) -> None:
        self.pieces = pieces
        self.tight = tight
        """Whether only contents without space at their edges fit, because the template strips or changes it."""
        self.special = tuple(special)
        """Texts that no fitting content contains."""

    def fits(self, contents: Sequence[str]) -> bool:
        """Whether joining gives what the template would write."""
        for content in contents:
            bare = content.strip()
            if not bare or (self.tight and len(bare) != len(content)):
                return False
            for text in self.special:
                if text in content:
                    return False
        return True

    def join(self, contents: Sequence[str]) -> str:
        """The text of a conversation with these contents."""
        return "".join(chain.from_iterable(zip(self.pieces, (*contents, ""), strict=True)))


def find_frame(
    render: Callable[[Sequence[str]], str], turns: int, literals: Sequence[str], markup: Sequence[str]
) -> Frame | None:
    """The frame that `render` writes around this many contents; None when it is not the same for all."""
    try:
        pieces = _pieces(render, turns)
    except CannotRender:
        return None
    if not pieces or not all(_holds(render, pieces, turns, probe) for probe in _HARD):
        return None
    tight = not all(_holds(render, pieces, turns, probe) for probe in _EDGES)
    unsafe = [
        text
        for text in literals
        if text not in markup
        and not all(
            _holds(render, pieces, turns, probe.strip() if tight else probe)
            for probe in (text, f"{text}q", f"q{text}", f"q{text}q", f"q {text} q", f"q{text}q{text}q")
            if probe.strip()
        )
    ]
    return Frame(pieces, tight, [*markup, *unsafe])


def _pieces(render: Callable[[Sequence[str]], str], turns: int) -> Pieces | None:
    """The constants around marks, each of which must appear once and in order."""
    marks = [_MARK.format(i) for i in range(turns)]
    rest, pieces = render(marks), []
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            return None
        pieces.append(before)
    return (*pieces, rest)


def _holds(render: Callable[[Sequence[str]], str], pieces: Pieces, turns: int, probe: str) -> bool:
    """Whether the constants are right when each turn alone, and all at once, say `probe`."""
    frame = Frame(pieces, False, ())
    said = [[probe if i == at else "plain" for i in range(turns)] for at in range(turns)]
    try:
        return all(render(contents) == frame.join(contents) for contents in [*said, [probe] * turns])
    except CannotRender:
        return False


def _literals(source: str) -> tuple[str, ...]:
    """Every text that the template's code mentions, and each sign of a short one: what it may search a content for."""
    from jinja2 import Environment, TemplateSyntaxError

    # Tokens, not a syntax tree: templates may have tags of their own.
    try:
        found = {str(token.value).strip() for token in Environment().lexer.tokenize(source) if token.type == "string"}
    except TemplateSyntaxError:
        return ()
    signs = {sign for text in found if len(text) <= _SHORT for sign in text if not sign.isalnum()}
    return tuple(sorted((found | signs) - {"", *map(chr, range(33))}))
