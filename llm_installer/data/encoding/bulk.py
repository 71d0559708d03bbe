"""Many examples to rows at once: the same ids and masks as one by one, several times faster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llm_installer.core.examples import Dropped, Example, Kind, Origin
from llm_installer.data.encoding.chat import CannotRender, Rendered
from llm_installer.data.encoding.encode import Encoder, Restore, Row
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.lengths import lengths_of, placed
from llm_installer.data.encoding.pictured import pictured
from llm_installer.data.encoding.shapes import Shapes
from llm_installer.data.encoding.spans import Tokens

_BATCH_ROWS = 512
_BATCH_CHARACTERS = 1 << 20
_FEW = 64
"""Texts tokenised at once: what is found of more no longer fits into the processor's cache."""

_MANY = 2000
"""Examples from which on looking for the quickest way takes less time than it saves."""


@dataclass(frozen=True)
class Refused:
    """An example that is left out, and why."""

    index: int
    origin: Origin
    reason: str

    @property
    def dropped(self) -> Dropped:
        return Dropped(self.origin, self.reason)


@dataclass(frozen=True, slots=True)
class _Text:
    """One text that is to become a row."""

    rendered: Rendered
    restore: Restore
    kind: Kind
    source: int


class Bulk:
    """An encoder, and what is found out about it on the way: kept, it is found out once."""

    def __init__(self, encoder: Encoder, many: bool) -> None:
        self.encoder = encoder
        self._render = Shapes(encoder.template.render, encoder.template.source).render
        # To look at a whole vocabulary takes a while.
        worth_it = many and encoder.tokenizer.is_fast
        self._lengths = lengths_of(encoder.tokenizer.backend_tokenizer) if worth_it else None

    def batches(self, examples: Iterable[tuple[int, Example]]) -> Iterator[tuple[list[Row], list[Refused]]]:
        """Rows and refusals of numbered examples, in their order, some hundreds of examples at a time."""
        texts: list[_Text | Row] = []
        refused: list[Refused] = []
        characters = 0
        for index, example in examples:
            try:
                if example.images:
                    texts += self.encoder.encode(example, index)
                    continue
                found, restore = self.encoder.texts(example, self._render)
            except CannotRender as error:
                refused.append(Refused(index, example.origin, str(error)))
                continue
            for rendered in found:
                texts.append(_Text(rendered, restore, example.kind, index))
                characters += len(rendered.text)
            if len(texts) + len(refused) >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
                yield self._rows(texts), refused
                texts, refused, characters = [], [], 0
        yield self._rows(texts), refused

    def _rows(self, texts: list[_Text | Row]) -> list[Row]:
        tokens: dict[int, Tokens] = {}
        if self.encoder.tokenizer.is_fast:
            for split_special in (False, True):
                plain = {
                    i: t.rendered
                    for i, t in enumerate(texts)
                    if isinstance(t, _Text) and not t.restore and (t.kind != "chat") == split_special
                }
                tokens.update(self._tokens(plain, split_special))
        return [
            t if isinstance(t, Row) else self.encoder.row(t.rendered, t.restore, t.kind, t.source, tokens.get(i))
            for i, t in enumerate(texts)
        ]

    def _tokens(self, texts: Mapping[int, Rendered], split_special: bool) -> dict[int, Tokens]:
        """The tokens of numbered texts."""
        found: dict[int, Tokens] = {}
        if self._lengths is not None:
            ascii_only = [(i, t) for i, t in texts.items() if t.text.isascii()]
            for start in range(0, len(ascii_only), _FEW):
                some = ascii_only[start : start + _FEW]
                tokens = self.encoder.tokens([t.text for _, t in some], split_special, places=False)
                known = placed(tokens, self._lengths, [t for _, t in some])
                found.update((i, k) for (i, _), k in zip(some, known, strict=True) if k is not None)
        left = [i for i in texts if i not in found]
        found.update(zip(left, self.encoder.tokens([texts[i].text for i in left], split_special), strict=True))
        return found


def encode_all(examples: Sequence[Example], encoder: Encoder) -> tuple[EncodedSet, list[Dropped]]:
    """All training rows, in memory, and the examples the template refused."""
    rows: list[Row] = []
    dropped: list[Dropped] = []
    for some, refused in Bulk(encoder, len(examples) >= _MANY).batches(enumerate(examples)):
        rows += some
        dropped += [r.dropped for r in refused]
    return pictured(EncodedSet.of(rows), examples), dropped
