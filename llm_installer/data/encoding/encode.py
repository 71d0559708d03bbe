"""Example to token ids and loss mask, exactly as the model will meet them when it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from llm_installer.core.arrays import NamedArrays
from llm_installer.core.errors import ModelError
from llm_installer.core.examples import Example, Kind, Message, Origin
from llm_installer.data.encoding.answers import Rendered
from llm_installer.data.encoding.bounded import bounded
from llm_installer.data.encoding.chat_template import DEFAULT_CHAT_TEMPLATE, Render, Template
from llm_installer.data.encoding.control_tokens import Restore, control_tokens, hide_control_tokens
from llm_installer.data.encoding.row import Row
from llm_installer.data.encoding.template_probes import PROBE, CannotRender, Turns
from llm_installer.data.encoding.token_spans import Span, Tokens, pieces, token_spans
from llm_installer.data.encoding.tokenizer import Processor, Tokenizer, only_encoding
from llm_installer.data.encoding.vision import Vision
from llm_installer.data.reading.images import ImageError, open_image

HAS_IMAGES = "it has images, and only text is trained on"


class Encoder:
    """A tokenizer and its chat template, as one: what training and chatting both use."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        train_on_prompt: bool = False,
        processor: Processor | None = None,
        no_vision: str = HAS_IMAGES,
        stops: Sequence[int] = (),
    ) -> None:
        """`no_vision` says why examples with images cannot be encoded, where there is no processor; `stops` are
        further tokens that end an answer, which the model's generation_config.json names.

        Raises ModelError for a tokenizer without an end-of-text token, or a chat template that does not work.
        """
        self.tokenizer = tokenizer
        self.train_on_prompt = train_on_prompt
        self._stops = tuple(stops)
        if tokenizer.eos_token_id is None:
            raise ModelError("The tokenizer names no end-of-text token (eos_token), so answers could never end")
        self.eos = tokenizer.eos_token_id
        empty = tokenizer("", add_special_tokens=True)["input_ids"]
        self.bos: list[int] = [i for i in empty[:1] if i == tokenizer.bos_token_id]
        self.default_template = not tokenizer.chat_template
        if self.default_template:
            start = "{{ bos_token }}" if self.bos else ""
            tokenizer.chat_template = start + DEFAULT_CHAT_TEMPLATE
        self.vision = Vision(processor) if processor else None
        """What shows images to the model."""
        self.no_vision = no_vision
        self._in_parts = self.vision is None and self._wants_parts()
        opening = self._render([{"role": "user", "content": "a"}]) if processor and self.bos else ""
        if opening and not opening.startswith(tokenizer.bos_token):
            # Processors put it before what a template renders without it.
            tokenizer.chat_template = "{{ bos_token }}" + str(tokenizer.chat_template)
        added = tuple(dict.fromkeys(str(t) for t in tokenizer.added_tokens_decoder.values()))
        self.template = Template(self._render, str(tokenizer.chat_template), added, tokenizer.eos_token)
        self.control_tokens = control_tokens(tokenizer, self.template.around)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer: the template's own, the tokenizer's and those that the model came with."""
        ends = self.tokenizer(self.template.stop, add_special_tokens=False)["input_ids"]
        return tuple(dict.fromkeys([*ends[-1:], self.eos, *self._stops]))

    def prompt_ids(self, messages: Sequence[Message], tools: str = "", images: Sequence[str] = ()) -> list[int]:
        """The ids a model is sent to answer `messages`, in which <image> marks where each of `images` goes.

        Raises CannotRender when the template refuses them, or the model cannot be shown the images; ModelError for a
        tokenizer that makes no tokens of them.
        """
        if images:
            example = Example(tuple(messages), Origin(""), tools=tools, images=tuple(images))
            rows = self._rows_with_images(
                example, 0, lambda e, show: [Rendered(self.template.prompt(e.messages, tools, show), ())]
            )
            return [int(i) for i in rows[0].ids]
        hidden, tools, restore = hide_control_tokens(messages, tools, self.control_tokens)
        ids, _ = self._tokenize(Rendered(self.template.prompt(hidden, tools), ()), restore)
        if not ids:
            raise ModelError("The model's tokenizer makes no tokens of a question; give the model its own files")
        return ids

    def text_ids(self, text: str) -> list[int]:
        """The ids a model is sent to continue plain text: no template, BOS where the tokenizer adds one."""
        ids, _ = self._tokenize(Rendered(text, ()), {}, split_special=True)
        return self.bos + ids

    def encode(self, example: Example, source: int = 0) -> list[Row]:
        """The training rows of an example; usually one. Raises CannotRender when the template refuses it."""
        if example.images:
            return self._rows_with_images(example, source, self.template.rows)
        texts, restore = self.texts(example)
        return [self.row(text, restore, example.kind, source) for text in texts]

    def texts(self, example: Example, render: Render | None = None) -> tuple[list[Rendered], Restore]:
        """The texts of an example to tokenise, and which of their characters stand for typed control tokens.

        Plain text and completions stay as they are; `render` may replace the template's own. Raises CannotRender.
        """
        if example.kind != "chat":
            prompt = "".join(m.content for m in example.messages[:-1])
            answer = example.messages[-1].content
            return [Rendered(prompt + answer, ((len(prompt), len(prompt) + len(answer)),), example.ends)], {}
        hidden, tools, restore = hide_control_tokens(example.messages, example.tools, self.control_tokens)
        shown = Example(hidden, example.origin, example.kind, tools)
        return self.template.rows(shown, render), restore

    def row(self, rendered: Rendered, restore: Restore, kind: Kind, source: int, tokens: Tokens | None = None) -> Row:
        """The row of one text; `tokens` are those of the whole text where the caller has them already."""
        ids, supervised = self._tokenize(rendered, restore, kind != "chat", tokens)
        if kind != "chat" and self.bos:
            first = len(self.bos)
            ids, supervised = [*self.bos, *ids], [(start + first, end + first) for start, end in supervised]
        if self.train_on_prompt:
            supervised = [(len(self.bos), len(ids))]
        mask = np.zeros(len(ids), dtype=np.bool_)
        for start, end in supervised:
            mask[start:end] = True
        mask[:1] = False
        return Row(np.array(ids, dtype=np.int32), mask, source, kind == "text")

    def inputs(self, ids: npt.NDArray[np.int64], images: Sequence[Sequence[str]]) -> NamedArrays:
        """What the model needs beside `ids` [rows, length] to see the images of each row; nothing for a text model.

        Raises DataError for an image that has been removed.
        """
        return self.vision.inputs(ids, images) if self.vision else {}

    def tokens(self, texts: Sequence[str], split_special: bool) -> Sequence[Tokens]:
        """The tokens of whole texts, by a fast tokenizer; with `split_special`, special tokens in them are text."""
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = split_special
        found: Sequence[Tokens] = backend.encode_batch(list(texts), add_special_tokens=False)
        return found

    def _rows_with_images(
        self, example: Example, source: int, render: Callable[[Example, Render], list[Rendered]]
    ) -> list[Row]:
        """The rows of an example with images: one of each text that `render` makes of it. Raises CannotRender."""
        if self.vision is None:
            raise CannotRender(self.no_vision)
        try:
            pictures = [open_image(image) for image in example.images]
        except ImageError as gone:
            raise CannotRender(str(gone)) from None
        messages, mark = self.vision.marked(example.messages, len(pictures))
        hidden, tools, restore = hide_control_tokens(messages, example.tools, self.control_tokens)
        shown = replace(example, messages=hidden, tools=tools)
        rows: list[Row] = []
        for text in render(shown, self.vision.showing(self.template.render, mark)):
            count = text.text.count(self.vision.token)
            expanded, tokens = self.vision.expand(text, pictures[:count])
            row = self.row(expanded, restore, "chat", source, tokens)
            supervised = row.supervised & self.vision.is_text(row.ids)
            rows.append(replace(row, supervised=supervised, images=example.images[:count]))
        if len(rows[-1].images) < len(pictures):
            raise CannotRender(f"its chat template shows {len(rows[-1].images)} of its {len(pictures)} images")
        return rows

    def _render(self, turns: Turns, **more: object) -> str:
        if self.vision:
            turns = self.vision.turns(turns)
        elif self._in_parts:
            turns = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
        return bounded(
            lambda: self.tokenizer.apply_chat_template(turns, tokenize=False, **more),
            lambda: len(str(turns)) + len(str(more)),
        )

    def _wants_parts(self) -> bool:
        """Whether the template shows contents only where they come in parts, as those of models that see want them."""
        from jinja2 import TemplateError

        def shows(content: object) -> bool:
            try:
                return PROBE in self._render([{"role": "user", "content": content}])
            except (TemplateError, TypeError, KeyError):
                return False

        self._in_parts = False
        return not shows(PROBE) and shows([{"type": "text", "text": PROBE}])

    def _tokens(self, text: str, split_special: bool) -> Tokens:
        return only_encoding(self.tokenizer(text, add_special_tokens=False, split_special_tokens=split_special))

    def _tokenize(
        self, rendered: Rendered, restore: Restore, split_special: bool = False, tokens: Tokens | None = None
    ) -> tuple[list[int], list[Span]]:
        """Ids, and which spans of them are supervised. The whole text is tokenised at once, as at inference; where a
        token would straddle the start of an answer, or typed control tokens must be split, piece by piece."""
        text, spans = rendered.text, rendered.supervised
        if self.tokenizer.is_fast and not restore:
            tokens = tokens or self._tokens(text, split_special)
            supervised = token_spans(tokens, spans, text)
            if supervised is not None:
                return _with_eos(tokens.ids, supervised, rendered, self.eos)
        ids: list[int] = []
        supervised = []
        for start, end, counts in pieces(text, spans):
            before = len(ids)
            ids += self._piece(text[start:end], restore, split_special, bool(ids))
            if counts:
                supervised.append((before, len(ids)))
        return _with_eos(ids, supervised, rendered, self.eos)

    def _piece(self, text: str, restore: Restore, split_special: bool, inside: bool) -> list[int]:
        """Ids of one piece of a longer text; what private characters stand for becomes plain-text tokens."""
        ids: list[int] = []
        start = 0
        for at, character in enumerate(text):
            if character in restore:
                ids += self._ids(text[start:at], split_special, inside or bool(ids))
                ids += self._as_text(restore[character])
                start = at + 1
        return ids + self._ids(text[start:], split_special, inside or bool(ids))

    def _as_text(self, token: str) -> list[int]:
        """Ids of an added token that stands for its letters; some tokenizers split only special ones when asked."""
        split = self._ids(token, True, True)
        return split if len(split) > 1 else [*self._ids(token[:1], True, True), *self._ids(token[1:], True, True)]

    def _ids(self, text: str, split_special: bool, inside: bool) -> list[int]:
        """Ids of `text`; inside a longer text without the space that some tokenizers put before a first word."""
        if not text:
            return []

        def encode(text: str) -> list[int]:
            return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=split_special)["input_ids"])

        whole, anchor = encode("\n" + text), encode("\n")
        if inside and whole[: len(anchor)] == anchor:
            return whole[len(anchor) :]
        return encode(text)


def _with_eos(ids: list[int], supervised: list[Span], rendered: Rendered, eos: int) -> tuple[list[int], list[Span]]:
    if not rendered.append_eos:
        return ids, supervised
    return [*ids, eos], [*supervised, (len(ids), len(ids) + 1)]
