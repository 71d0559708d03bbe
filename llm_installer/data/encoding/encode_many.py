"""Many examples to rows at once: the same ids and masks as one by one, several times faster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llm_installer.core.examples import Dropped, Example, Kind, Origin
from llm_installer.data.encoding.answers import Rendered
from llm_installer.data.encoding.control_tokens import Restore
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.fast_render import FastRenderer
from llm_installer.data.encoding.image_rows import with_images
from llm_installer.data.encoding.row import Row
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.encoding.token_spans import Tokens

_BATCH_ROWS = 512
_BATCH_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Refused:
    """An example that the chat template refuses, and why; or shows only in part, and what is missing."""

    index: int
    origin: Origin
    reason: str
    partly: bool = False

    @property
    def dropped(self) -> Dropped:
        return Dropped(self.origin, self.reason, self.partly)


@dataclass(frozen=True, slots=True)
class _Text:
    """One text that is to become a row."""

    rendered: Rendered
    restore: Restore
    kind: Kind
    source: int


class BatchEncoder:
    """An encoder for many examples. What it finds out about the chat template on the way is kept."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._render = FastRenderer(encoder.template.render, encoder.template.source).render

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
            unshown = tuple(dict.fromkeys(words for rendered in found for words in rendered.unshown))
            if unshown:
                reason = f"its chat template does not show {' or '.join(unshown)}"
                refused.append(Refused(index, example.origin, reason, partly=True))
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
                    i: t.rendered.text
                    for i, t in enumerate(texts)
                    if isinstance(t, _Text) and not t.restore and (t.kind != "chat") == split_special
                }
                tokens.update(self._tokens(plain, split_special))
        return [
            t if isinstance(t, Row) else self.encoder.row(t.rendered, t.restore, t.kind, t.source, tokens.get(i))
            for i, t in enumerate(texts)
        ]

    def _tokens(self, texts: Mapping[int, str], split_special: bool) -> dict[int, Tokens]:
        """The tokens of numbered texts."""
        return dict(zip(texts, self.encoder.tokens(list(texts.values()), split_special), strict=True))


def encode_all(examples: Sequence[Example], encoder: Encoder) -> tuple[EncodedSet, list[Dropped]]:
    """All training rows, in memory, and the examples that are skipped because the template refuses them."""
    rows: list[Row] = []
    dropped: list[Dropped] = []
    for some, refused in BatchEncoder(encoder).batches(enumerate(examples)):
        rows += some
        dropped += [r.dropped for r in refused]
    return with_images(EncodedSet.of(rows), examples), dropped
