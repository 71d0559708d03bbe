"""Example to token ids and a mask of what is learned, exactly as the model will meet them when it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_installer.core.errors import ModelError
from llm_installer.core.examples import Example, Kind, Message, Origin
from llm_installer.data.encoding.chat import DEFAULT_CHAT_TEMPLATE, CannotRender, Render, Rendered, Template
from llm_installer.data.encoding.spans import Span, Tokens, pieces, token_spans
from llm_installer.data.encoding.vision import Arrays, Vision
from llm_installer.data.reading.images import ImageGone, opened

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


Restore: TypeAlias = dict[str, str]
"""Characters that stand for control tokens which a user typed, and those tokens."""

HAS_IMAGES = "it has images, and only text is trained on"
_PRIVATE = 0xF0000
"""Start of a private-use plane: stand-ins for control tokens that a user typed as text."""


@dataclass(frozen=True)
class Row:
    """One training row: ids and, for each, whether predicting it is learned. Both of shape [length]."""

    ids: Ids
    learned: Mask
    source: int
    """Index of the example it came from."""
    text: bool = False
    """True for plain text, which may be cut into pieces."""
    images: tuple[str, ...] = ()
    """The pictures that some of its tokens stand for, in order."""


class Encoder:
    """A tokenizer and its chat template, as one: what training and chatting both use."""

    def __init__(
        self, tokenizer: Any, train_on_prompt: bool = False, processor: Any = None, blind: str = HAS_IMAGES
    ) -> None:
        self.tokenizer = tokenizer
        self.train_on_prompt = train_on_prompt
        if tokenizer.eos_token_id is None:
            raise ModelError("The tokenizer names no end-of-text token (eos_token), so answers could never end")
        self.eos: int = tokenizer.eos_token_id
        empty = tokenizer("", add_special_tokens=True)["input_ids"]
        self.bos: list[int] = [i for i in empty[:1] if i == tokenizer.bos_token_id]
        self.default_template = not tokenizer.chat_template
        if self.default_template:
            start = "{{ bos_token }}" if self.bos else ""
            tokenizer.chat_template = start + DEFAULT_CHAT_TEMPLATE
        self.vision = Vision(processor) if processor else None
        """What shows images to the model."""
        self.blind = blind
        """Without it: why examples with images cannot be learned."""
        opening = self._render([{"role": "user", "content": "a"}]) if processor and self.bos else ""
        if opening and not opening.startswith(tokenizer.bos_token):
            # Processors put it before what a template renders without it.
            tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
        added = {str(t): t.special for t in tokenizer.added_tokens_decoder.values()}
        self.control_tokens = sorted((t for t, special in added.items() if special), key=len, reverse=True)
        self.template = Template(self._render, str(tokenizer.chat_template), tuple(added), tokenizer.eos_token)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer: the template's own and the tokenizer's."""
        ends = self.tokenizer(self.template.stop, add_special_tokens=False)["input_ids"]
        return tuple(dict.fromkeys([ends[-1], self.eos]))

    def prompt_ids(self, messages: Sequence[Message], tools: str = "", images: Sequence[str] = ()) -> list[int]:
        """The ids a model is sent to answer `messages`, in which <image> marks where each of `images` goes. Raises
        CannotRender when the template refuses them, or the model cannot be shown the images."""
        if images:
            example = Example(tuple(messages), Origin(""), tools=tools, images=tuple(images))
            rows = self._seen(example, 0, lambda e, show: [Rendered(self.template.prompt(e.messages, tools, show), ())])
            return [int(i) for i in rows[0].ids]
        shielded, tools, restore = self._shield(messages, tools)
        ids, _ = self._tokenize(Rendered(self.template.prompt(shielded, tools), ()), restore)
        return ids

    def text_ids(self, text: str) -> list[int]:
        """The ids a model is sent to continue plain text: no template, BOS where the tokenizer adds one."""
        ids, _ = self._tokenize(Rendered(text, ()), {}, split_special=True)
        return self.bos + ids

    def encode(self, example: Example, source: int = 0) -> list[Row]:
        """The training rows of an example; usually one. Raises CannotRender when the template refuses it."""
        if example.images:
            return self._seen(example, source, self.template.rows)
        texts, restore = self.texts(example)
        return [self.row(text, restore, example.kind, source) for text in texts]

    def texts(self, example: Example, render: Render | None = None) -> tuple[list[Rendered], Restore]:
        """What is tokenised of an example, and which characters of it stand for typed control tokens. Plain text and
        completions are as they are; `render` may stand in for the template's own."""
        if example.kind != "chat":
            prompt = "".join(m.content for m in example.messages[:-1])
            answer = example.messages[-1].content
            return [Rendered(prompt + answer, ((len(prompt), len(prompt) + len(answer)),), example.ends)], {}
        shielded, tools, restore = self._shield(example.messages, example.tools)
        shown = Example(shielded, example.origin, example.kind, tools)
        return self.template.rows(shown, render), restore

    def row(self, rendered: Rendered, restore: Restore, kind: Kind, source: int, tokens: Tokens | None = None) -> Row:
        """The row of one text; `tokens` are those of the whole text where somebody has them already."""
        ids, learned = self._tokenize(rendered, restore, kind != "chat", tokens)
        if kind != "chat" and self.bos:
            first = len(self.bos)
            ids, learned = [*self.bos, *ids], [(start + first, end + first) for start, end in learned]
        if self.train_on_prompt:
            learned = [(len(self.bos), len(ids))]
        mask = np.zeros(len(ids), dtype=np.bool_)
        for start, end in learned:
            mask[start:end] = True
        mask[:1] = False
        return Row(np.array(ids, dtype=np.int32), mask, source, kind == "text")

    def inputs(self, ids: npt.NDArray[np.int64], images: Sequence[Sequence[str]]) -> Arrays:
        """What the model needs beside `ids` [rows, length] to see the images of each row; nothing for a text model."""
        return self.vision.inputs(ids, images) if self.vision else {}

    def _seen(self, example: Example, source: int, render: Callable[[Example, Render], list[Rendered]]) -> list[Row]:
        """The rows of an example with images: of each text that `render` makes of it. Raises CannotRender."""
        if self.vision is None:
            raise CannotRender(self.blind)
        try:
            pictures = [opened(image) for image in example.images]
        except ImageGone as gone:
            raise CannotRender(str(gone)) from None
        messages, mark = self.vision.marked(example.messages, len(pictures))
        shielded, tools, restore = self._shield(messages, example.tools)
        shown = replace(example, messages=shielded, tools=tools)
        rows: list[Row] = []
        for text in render(shown, self.vision.showing(self.template.render, mark)):
            count = text.text.count(self.vision.token)
            expanded, tokens = self.vision.expand(text, pictures[:count])
            row = self.row(expanded, restore, "chat", source, tokens)
            learned = row.learned & self.vision.learnable(row.ids)
            rows.append(replace(row, learned=learned, images=example.images[:count]))
        if len(rows[-1].images) < len(pictures):
            raise CannotRender(f"its chat template shows {len(rows[-1].images)} of its {len(pictures)} images")
        return rows

    def _render(self, turns: list[dict[str, Any]], **more: Any) -> str:
        turns = self.vision.turns(turns) if self.vision else turns
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, **more))

    def _tokens(self, text: str, split_special: bool) -> Tokens:
        found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=split_special)
        tokens: Tokens = found.encodings[0]
        return tokens

    def tokens(self, texts: Sequence[str], split_special: bool, places: bool = True) -> Sequence[Tokens]:
        """The tokens of whole texts, by a fast tokenizer; sooner where nobody asks for their `places`."""
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = split_special
        encode = backend.encode_batch if places else backend.encode_batch_fast
        found: Sequence[Tokens] = encode(texts, add_special_tokens=False)
        return found

    def _shield(self, messages: Sequence[Message], tools: str) -> tuple[tuple[Message, ...], str, Restore]:
        """Messages and tools with typed control tokens replaced by private characters, and how to turn those back.

        Text that a user typed must stay text: `<|im_end|>` inside a question must not end the turn.
        """
        texts = [text for m in messages for text in (m.content, m.tool_calls, m.reasoning_content)]
        written = "\0".join([*texts, tools])
        typed = [token for token in self.control_tokens if token in written]
        if not typed:
            return tuple(messages), tools, {}
        free = (c for c in map(chr, range(_PRIVATE, _PRIVATE + 0xFFFE)) if c not in written)
        restore = dict(zip(free, typed, strict=False))

        def hide(text: str) -> str:
            for stand_in, token in restore.items():
                text = text.replace(token, stand_in)
            return text

        hidden = [
            replace(
                m,
                content=hide(m.content),
                tool_calls=hide(m.tool_calls),
                reasoning_content=hide(m.reasoning_content),
            )
            for m in messages
        ]
        return tuple(hidden), hide(tools), restore

    def _tokenize(
        self, rendered: Rendered, restore: Restore, split_special: bool = False, tokens: Tokens | None = None
    ) -> tuple[list[int], list[Span]]:
        """Ids and from which to which of them is learned. The whole text is tokenised at once, as at inference; where a
        token would straddle the start of an answer, or typed control tokens must be split, piece by piece."""
        text, spans = rendered.text, rendered.learned
        if self.tokenizer.is_fast and not restore:
            tokens = tokens or self._tokens(text, split_special)
            learned = token_spans(tokens, spans)
            if learned is not None:
                return _with_eos(tokens.ids, learned, rendered, self.eos)
        ids: list[int] = []
        learned = []
        for start, end, learn in pieces(text, spans):
            before = len(ids)
            ids += self._piece(text[start:end], restore, split_special, bool(ids))
            if learn:
                learned.append((before, len(ids)))
        return _with_eos(ids, learned, rendered, self.eos)

    def _piece(self, text: str, restore: Restore, split_special: bool, inside: bool) -> list[int]:
        """Ids of one piece of a longer text; the stand-ins of typed control tokens become plain-text tokens."""
        ids: list[int] = []
        start = 0
        for at, character in enumerate(text):
            if character in restore:
                ids += self._ids(text[start:at], split_special, inside or bool(ids))
                ids += self._ids(restore[character], True, True)
                start = at + 1
        return ids + self._ids(text[start:], split_special, inside or bool(ids))

    def _ids(self, text: str, split_special: bool, inside: bool) -> list[int]:
        """Ids of `text`; inside a longer text without the space that some tokenizers put before a first word."""
        if not text:
            return []
        encode: Callable[[str], list[int]] = lambda t: list(  # noqa: E731
            self.tokenizer(t, add_special_tokens=False, split_special_tokens=split_special)["input_ids"]
        )
        whole, anchor = encode("\n" + text), encode("\n")
        if inside and whole[: len(anchor)] == anchor:
            return whole[len(anchor) :]
        return encode(text)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model or adapter folder. Raises ModelError when it cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"The tokenizer in {folder} cannot be loaded: {_first_line(error)}") from None


def _with_eos(ids: list[int], learned: list[Span], rendered: Rendered, eos: int) -> tuple[list[int], list[Span]]:
    return ([*ids, eos], [*learned, (len(ids), len(ids) + 1)]) if rendered.append_eos else (ids, learned)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["unknown reason"])[0]
