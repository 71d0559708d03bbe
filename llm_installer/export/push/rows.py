"""Whether a text of the training rows stands in a file that is about to be sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from llm_installer.core.examples import Example

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
"""A word; in scripts without spaces, a character."""
MANY = 8
"""Words in a row that two texts have in common for no other reason than that one is from the other."""
FEW, LETTERS = 4, 20
"""Words and characters of a whole message that tell as much; shorter ones stand anywhere."""
_SMALL = 1 << 20
"""Characters of a file up to which whole short messages are looked for, too: longer ones are vocabularies."""
Window = tuple[str, ...]


def words(text: str) -> list[str]:
    """The words of a text, whatever is between them."""
    return _WORD.findall(text.lower())


def _telling(window: Window) -> bool:
    """Whether it is language: at least half of its words have a letter."""
    return 2 * sum(any(map(str.isalpha, word)) for word in window) >= len(window)


class RowSearch:
    """The texts that are about to be sent, ready to be asked whether they hold something of a row."""

    def __init__(self, texts: Iterable[tuple[str, str]], public: Iterable[str] = ()) -> None:
        """`texts` are (file, text); what is in `public`, such as the base's own files, is nobody's row."""
        self._windows: dict[Window, str] = {}
        for file, text in texts:
            for window in self._of(text):
                self._windows.setdefault(window, file)
        for text in public:
            for window in self._of(text):
                self._windows.pop(window, None)

    def _of(self, text: str) -> Iterator[Window]:
        every = words(text)
        for length in range(FEW, MANY + 1) if len(text) < _SMALL else (MANY,):
            for at in range(len(every) - length + 1):
                yield tuple(every[at : at + length])

    def find(self, text: str) -> str:
        """The file that holds something of this text; empty where none does."""
        every = words(text)
        length = MANY if len(every) >= MANY else len(every) if len(text.strip()) >= LETTERS else 0
        if length < FEW:
            return ""
        windows = (tuple(every[at : at + length]) for at in range(len(every) - length + 1))
        return next((self._windows[w] for w in windows if w in self._windows and _telling(w)), "")

    def first(self, examples: Iterable[Example]) -> Mapping[str, str]:
        """For each file that holds something of a row, the origin of the first such row."""
        found: dict[str, str] = {}
        for example in examples:
            for message in example.messages:
                for text in (message.content, message.reasoning_content):
                    if text and (file := self.find(text)):
                        found.setdefault(file, str(example.origin))
        return found
