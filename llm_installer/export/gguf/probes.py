"""Texts of every kind that a tokenizer may treat in its own way, and conversations for a template."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

TEXTS = 200
_PARTS = (
    "Once upon a time", " there was", " a  cat", "I'm", "you'LL", "they've", "it's", "DON'T", "can't", "7", "42",
    " 2024", "1234567", "3.14", "1,000,000", "a1b2c3", "x=1;", "   ", "\n", "\n\n", " \n ", "\t", "\r\n", "  \n\n  ",
    "trailing ", " leading", "!", "?!", "...", "---", "(a)", "[b]", "{c}", "<d>", "\"e\"", "'f'", "`g`", "#h", "@i",
    "a_b", "snake_case", "camelCase", "HTTPServer", "https://example.org/a?b=c&d=e", "user@example.org",
    "C:\\dir\\file.txt", "/usr/bin", "def f(x):\n    return x + 1\n", "if (a && b) { c(); }", "\u4e2d\u6587",
    "\u4f60\u597d\uff0c\u4e16\u754c", "\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8", "\ud55c\uad6d\uc5b4",
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439", "\u0639\u0631\u0628\u064a", "\u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e44\u0e17\u0e22", "caf\u00e9", "na\u00efve", "\u00dcber",
    "stra\u00dfe", "\u00e6\u00f8\u00e5", "\u0663\u0664", "\u2167", "\u00bd", "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "\u20ac5", "\u00a35",
    "\u2013", "\u2014", "\u201equote\u201c", "\u2026", "\u00a0", "\u3000", "\u200b", "\u00b0C", "\u00b5m", "\u221e",
)  # fmt: skip


_WORDS = (
    " the little girl smiled and went outside to play",
    "They wanted something different,",
    " because her mother said so",
    "Everyone understood the international agreement.",
    " yesterday afternoon",
    " happily together",
    "Where are the others?",
    " Das W\u00f6rterbuch erkl\u00e4rt Zusammenh\u00e4nge",
    "les \u00e9l\u00e8ves fran\u00e7ais",
    " ma\u00f1ana por la tarde",
)
"""Ordinary words, in which most merges happen."""


def texts(specials: Sequence[str] = ()) -> list[str]:
    """Two hundred texts, the same at each call; some with the special tokens of a model in them."""
    chance = random.Random(0)
    found = [*_WORDS, *_PARTS, "", "a", " ", "The quick brown fox jumps over the lazy dog."]
    while len(found) < TEXTS:
        parts = chance.choices(_PARTS, k=chance.randint(2, 8))
        parts.insert(chance.randrange(len(parts)), chance.choice(_WORDS))
        if specials and chance.random() < 0.3:
            parts.insert(chance.randrange(len(parts)), chance.choice(specials))
        found.append(chance.choice(("", " ")).join(parts))
    return found[:TEXTS]


def _turns(*contents: str, system: str = "") -> list[Mapping[str, object]]:
    told: list[Mapping[str, object]] = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant")
    return told + [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


CONVERSATIONS: tuple[Sequence[Mapping[str, object]], ...] = (
    _turns("Hello!"),
    _turns("Hello!", "Hi. What can I do?", "Count to 3."),
    _turns("Who are you?", system="You answer in one sentence."),
    _turns("  spaces \n and lines\n\n", " answered "),
    _turns("{{ user }} {% raw %} <|im_end|> </s>", "\u4f60\u597d \U0001f600", "'quoted' \"twice\""),
    _turns("1", "2", "3", "4", "5", system="Numbers only."),
)
