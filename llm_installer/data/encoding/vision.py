"""Images as a model sees them: where its chat template puts them, the tokens that stand for them, and their pixels.

Nothing here knows a family by name. The processor of the model folder says where an image goes, by how many tokens it
is replaced and which arrays the model needs; images are opened when a batch is made, and not kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llm_installer.core.arrays import NamedArrays
from llm_installer.core.errors import DataError
from llm_installer.core.examples import Message
from llm_installer.data.encoding.answers import Rendered
from llm_installer.data.encoding.chat_template import Render
from llm_installer.data.encoding.row import Ids, Mask
from llm_installer.data.encoding.template_probes import CannotRender, Mode, Turns
from llm_installer.data.encoding.token_spans import TokenList, Tokens
from llm_installer.data.encoding.tokenizer import Processor, Replacement, Tokenizer, only_encoding
from llm_installer.data.formats.turns import IMAGE_MARK
from llm_installer.data.reading.images import ImageError, open_image

if TYPE_CHECKING:
    from PIL.Image import Image

_PROBE = "qwertz"
_ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "user": ((), ()),
    "assistant": (("user",), ()),
    "system": ((), ("user",)),
}
"""Roles whose contents may be lists of parts, and the roles that must come before and after them."""
_OURS = ("input_ids", "attention_mask", "token_type_ids")
"""Outputs of the processor that the rows have already."""


class Vision:
    """The processor of a model, and what was found out about it."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.token = str(processor.image_token)
        """What marks an image in a text before it is expanded."""
        self.image_ids = tuple(int(i) for i in processor.image_token_ids if i is not None)
        """The tokens that a model replaces by what it sees in the image."""
        added = self.tokenizer.added_tokens_decoder
        self._special = frozenset(i for i, token in added.items() if token.special)
        self._masked = frozenset((*self.image_ids, int(self.tokenizer.convert_tokens_to_ids(self.token))))
        self._parts = self._roles_in_parts()
        self._kinds = self._names_of_kinds()

    def turns(self, turns: Turns, mark: str = "") -> Turns:
        """Turns with their contents in the form that the template takes, and an image in the place of `mark`."""
        return [turn | {"content": self._content(turn["role"], turn["content"], mark)} for turn in turns]

    def showing(self, render: Render, mark: str) -> Render:
        """`render`, with an image in the place of every `mark`."""

        def shown(turns: Turns, tools: object, generation: bool, mode: Mode | None = None) -> str:
            return render(self.turns(turns, mark), tools, generation, mode)

        return shown

    def marked(self, messages: Sequence[Message], images: int) -> tuple[tuple[Message, ...], str]:
        """Messages with one private character where each image goes, and that character.

        Raises CannotRender when an image is in an answer, or when there are more or fewer marks than images.
        """
        if any(m.role == "assistant" and IMAGE_MARK in m.content for m in messages):
            raise CannotRender("it has an image in an answer, and only text can be trained on")
        if sum(m.content.count(IMAGE_MARK) for m in messages) != images:
            raise CannotRender(f"the number of {IMAGE_MARK} marks is not the number of images ({images})")
        written = "".join(m.content + m.tool_calls for m in messages)
        mark = next(c for c in map(chr, range(0x10FFFD, 0x100000, -1)) if c not in written)
        return tuple(replace(m, content=m.content.replace(IMAGE_MARK, mark)) for m in messages), mark

    def expand(self, rendered: Rendered, pictures: Sequence[Image]) -> tuple[Rendered, Tokens]:
        """The text as the processor writes it, with every token of its images, and the tokens of all of it.

        Raises CannotRender when the processor refuses the pictures or does not say what it replaced.
        """
        if not pictures:
            found = self.tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
            return rendered, only_encoding(found)
        try:
            found = self.processor(
                text=[rendered.text],
                images=[list(pictures)],
                add_special_tokens=False,
                return_offsets_mapping=True,
                return_text_replacement_offsets=True,
            )
        except (ValueError, TypeError) as error:
            raise CannotRender(f"the model's processor refuses its images ({error})") from None
        changes = (found.get("text_replacement_offsets") or [[]])[0]
        if len(changes) != len(pictures):
            raise CannotRender("the model's processor does not say by which tokens it replaces an image")
        for change in changes:
            ids = self.tokenizer(change["replacement"], add_special_tokens=False)["input_ids"]
            self._masked |= self._special.intersection(ids)
        expanded = _expanded(rendered, changes)
        return expanded, TokenList(list(found["input_ids"][0]), [tuple(pair) for pair in found["offset_mapping"][0]])

    def is_text(self, ids: Ids) -> Mask:
        """Which tokens are text, not part of an image or of what the processor puts around it; shape of `ids`."""
        return np.isin(ids, list(self._masked), invert=True)

    def inputs(self, ids: npt.NDArray[np.int64], images: Sequence[Sequence[str]]) -> NamedArrays:
        """What the model needs beside `ids` [rows, length]: pixels for the images of all rows, in order, and the kind
        of each token where the model wants to know it. Raises DataError for an image that has been removed."""
        found: NamedArrays = dict.fromkeys(self._kinds, self._kind(ids))
        shown = [some for some in images if some]
        if not shown:
            return found
        try:
            pictures = [[open_image(image) for image in some] for some in shown]
        except ImageError as gone:
            raise DataError(f"While training, {gone}; put it back and run the command again") from None
        texts = [self.token * len(some) for some in shown]
        made = self.processor(text=texts, images=pictures, return_tensors="pt", padding=True)
        return found | {n: array.numpy() for n, array in made.items() if n not in (*_OURS, *self._kinds)}

    def _content(self, role: object, content: object, mark: str) -> object:
        if not isinstance(content, str):
            return content
        pieces = re.split(f"({re.escape(mark)})", content) if mark else [content]
        if role not in self._parts:
            return "".join(self.token if piece == mark and mark else piece for piece in pieces)
        return [
            {"type": "image"} if piece == mark and mark else {"type": "text", "text": piece}
            for piece in pieces
            if piece or len(pieces) == 1
        ]

    def _roles_in_parts(self) -> frozenset[str]:
        """Roles whose contents the template takes as lists of parts; the user's must show images."""
        image, said = {"type": "image"}, {"type": "text", "text": _PROBE}

        def shown(role: str, parts: list[dict[str, str]]) -> str:
            before, after = _ROLES[role]
            plain = [{"type": "text", "text": "a"}]
            turns = [*((r, plain) for r in before), (role, parts), *((r, plain) for r in after)]
            return _rendered(self.tokenizer, [{"role": r, "content": c} for r, c in turns])

        if not all(part in shown("user", [image, said]) for part in (self.token, _PROBE)):
            return frozenset()
        found = {role: shown(role, [said]) for role in _ROLES}
        return frozenset(role for role, text in found.items() if _PROBE in text and not re.search("[\"']type", text))

    def _names_of_kinds(self) -> tuple[str, ...]:
        """The names under which the processor gives the kinds of tokens, if it does: tested on a grey image."""
        from PIL import Image

        try:
            made = self.processor(text=[self.token], images=[[Image.new("RGB", (224, 224), "grey")]])
        except (ValueError, TypeError):
            return ()  # it will refuse real ones too, each with its reason
        kinds = self._kind(np.asarray(made["input_ids"]))
        return tuple(n for n in made if n.endswith("token_type_ids") and np.array_equal(made[n], kinds))

    def _kind(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """1 for tokens that stand for an image, 0 for text."""
        return np.isin(ids, self.image_ids).astype(np.int64)


def _rendered(tokenizer: Tokenizer, turns: Turns) -> str:
    """The text of these turns; empty when the template refuses them."""
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False))
    except (TemplateError, TypeError, KeyError):
        return ""


def _expanded(rendered: Rendered, changes: Sequence[Replacement]) -> Rendered:
    """The text with every change made, and the supervised spans moved accordingly."""
    text, at = "", 0
    for change in changes:
        start, end = change["span"]
        text += rendered.text[at:start] + change["replacement"]
        at = end
    text += rendered.text[at:]

    def moved(place: int) -> int:
        before = [c for c in changes if c["span"][1] <= place]
        return place + (int(before[-1]["new_span"][1]) - int(before[-1]["span"][1]) if before else 0)

    supervised = tuple((moved(start), moved(end)) for start, end in rendered.supervised)
    return Rendered(text, supervised, rendered.append_eos)
