"""Where tokens lie in a text, from how long each token of the vocabulary is: to ask the tokenizer takes half as long
again as the tokens themselves.

That holds for byte-level tokenizers that change nothing in a text, and only where the lengths of all its tokens add up
to its own. Others, and texts that are not all ASCII, are tokenised with their places as ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_installer.data.encoding.chat import Rendered
from llm_installer.data.encoding.spans import Known

Lengths: TypeAlias = npt.NDArray[np.int64]
"""Characters of every token, by its id; 0 where there is none."""

_KEEP_ASCII = {"NFC", "NFD", "NFKC", "NFKD"}
"""What these do to a text leaves ASCII as it is."""
_PROBE = "Hello  world,\n\n\tit's 3.14 % of <b>what</b> you'd\r\n  say: a_b  "


def lengths_of(backend: Any) -> Lengths | None:
    """Of the tokens of a tokenizer; None where they do not tell where a token lies."""
    parts = json.loads(backend.to_str())
    if not _plain(parts):
        return None
    vocabulary = parts["model"]["vocab"]
    added = {token["id"]: len(token["content"]) for token in parts["added_tokens"]}
    # In the alphabet of byte-level tokenizers each byte is one character.
    known = {number: len(token) for token, number in vocabulary.items()} | added
    if not all(known.values()):
        return None
    lengths = np.zeros(max(known, default=-1) + 1, np.int64)
    lengths[list(known)] = list(known.values())
    return lengths if _right(lengths, backend) else None


def placed(found: Sequence[Any], lengths: Lengths, texts: Sequence[Rendered]) -> list[Known | None]:
    """The tokens that were found of ASCII texts, with which are learned; None where the lengths do not tell."""
    ids = [tokens.ids for tokens in found]
    flat = np.fromiter(chain.from_iterable(ids), np.int64)
    bounds = np.concatenate([[0], np.cumsum(lengths[flat])])
    first = np.concatenate([[0], np.cumsum([len(row) for row in ids], dtype=np.int64)])
    begins = bounds[first]
    whole = (np.diff(begins) == [len(text.text) for text in texts]).tolist()
    edges = np.array([edge for text in texts for span in text.learned for edge in span], np.int64)
    row_of = np.repeat(np.arange(len(texts)), [2 * len(text.learned) for text in texts])
    wanted = edges + begins[row_of]
    at = np.searchsorted(bounds, wanted)
    exact = (bounds[np.minimum(at, len(bounds) - 1)] == wanted).tolist()
    places = (at - first[row_of]).tolist()
    rows: list[Known | None] = []
    start = 0
    for number, text in enumerate(texts):
        end = start + 2 * len(text.learned)
        told = whole[number] and all(exact[start:end])
        learned = list(zip(places[start:end:2], places[start + 1 : end : 2], strict=True))
        rows.append(Known(ids[number], learned) if told else None)
        start = end
    return rows


def _plain(parts: Mapping[str, Any]) -> bool:
    """Whether a tokenizer takes ASCII text as it is and cuts it into pieces of which none is lost."""
    model, cuts = parts["model"], _steps(parts["pre_tokenizer"], "pretokenizers")
    return (
        model["type"] == "BPE"
        and not any(model.get(name) for name in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix"))
        and not model.get("byte_fallback")
        and all(step["type"] in _KEEP_ASCII for step in _steps(parts["normalizer"], "normalizers"))
        and any(step["type"] == "ByteLevel" for step in cuts)
        and all(_cuts_only(step) for step in cuts)
        # Some leave the space before a word out of its token's place.
        and all(
            step["type"] == "TemplateProcessing" or (step["type"] == "ByteLevel" and not step["trim_offsets"])
            for step in _steps(parts["post_processor"], "processors")
        )
    )


def _cuts_only(step: Mapping[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return not bool(step["add_prefix_space"])
    return bool(step["type"] == "Digits" or (step["type"] == "Split" and step["behavior"] != "Removed"))


def _steps(part: Mapping[str, Any] | None, names: str) -> Sequence[Mapping[str, Any]]:
    if part is None:
        return ()
    if part["type"] != "Sequence":
        return (part,)
    return [inner for step in part[names] for inner in _steps(step, names)]


def _right(lengths: Lengths, backend: Any) -> bool:
    """Whether the tokenizer says the same of a text with all kinds of signs in it."""
    tokens = backend.encode(_PROBE, add_special_tokens=False)
    ends: list[int] = np.cumsum(lengths[tokens.ids]).tolist()
    places: list[tuple[int, int]] = tokens.offsets
    return places == list(zip([0, *ends[:-1]], ends, strict=True))
