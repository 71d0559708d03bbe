"""A model's tokenizer as metadata of a GGUF file, found out from its structure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llm_installer.core.errors import ModelError
from llm_installer.core.text import shortened
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.tokenizer import Tokenizer
from llm_installer.export.gguf.facts import Facts, Values
from llm_installer.export.gguf.pre_tokenizers import find_pre, prove
from llm_installer.export.gguf.probes import TEXTS, texts
from llm_installer.export.gguf.template import written_template
from llm_installer.export.gguf.tokens import BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED, FileTokens

COMPOSED = "llama.cpp does not compose characters (NFC) as this tokenizer does: decomposed text gets other tokens"
"""Said of tokenizers that do."""
NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """What a file says about tokens."""

    values: Values
    notes: tuple[str, ...] = ()
    """What its reader should know, a sentence each."""


def vocabulary(encoder: Encoder, rows: int) -> Vocabulary:
    """The tokenizer of a model whose embedding has that many rows.

    Raises ModelError for a tokenizer that llama.cpp would use in another way.
    """
    tokenizer = encoder.tokenizer
    if not tokenizer.is_fast:
        raise ModelError("The model's tokenizer has no tokenizer.json, from which alone a GGUF can be written")
    whole = Facts(json.loads(tokenizer.backend_tokenizer.to_str()))
    model = whole.part("model")
    if model.get("type") != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ModelError(
            f"The model's tokenizer is of the kind {model.get('type')}, and only BPE can be written as GGUF"
        )
    if model.get("byte_fallback"):
        values, notes = _by_scores(whole), NOTHING
    else:
        values, notes = _by_merges(whole, encoder)
    tokens = _tokens(whole, rows)
    values |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": _types(whole, tokens, encoder)}
    if model.get("byte_fallback"):
        ranks = _lowest_ranks(model)
        values["tokenizer.ggml.scores"] = [-float(ranks.get(token, 0)) for token in tokens]
    ends, more = _ends(encoder, rows)
    values |= ends | written_template(encoder)
    if different := other_tokens(tokenizer, values, probes(encoder)):
        raise ModelError(
            f"The model's tokenizer makes other tokens of {len(different)} of {TEXTS} texts than llama.cpp would with "
            f"what a GGUF can say, as of {shortened(different[0], 60)!r}, so the model cannot be written as one"
        )
    return Vocabulary(values, (*notes, *more))


def _by_scores(whole: Facts) -> Values:
    """A SentencePiece-like tokenizer. Raises ModelError where its normalizer is none that llama.cpp knows."""
    text = json.dumps([whole.get("normalizer"), whole.get("pre_tokenizer")], ensure_ascii=False)
    kinds = set(_types_of(whole.get("normalizer"))) | set(_types_of(whole.get("pre_tokenizer")))
    strange = kinds - {"Sequence", "Prepend", "Replace", "Metaspace", "Split"}
    if strange or SPACE not in text:
        raise ModelError(
            f"The model's tokenizer changes text in a way ({', '.join(sorted(strange)) or 'no mark for spaces'}) that "
            "llama.cpp does not know"
        )
    prefix = "Prepend" in kinds or '"prepend_scheme": "first"' in text or '"prepend_scheme": "always"' in text
    return {"tokenizer.ggml.model": "llama", "tokenizer.ggml.add_space_prefix": prefix}


def _types_of(part: object) -> Iterator[str]:
    """The type of a part of tokenizer.json and of those in it."""
    if isinstance(part, dict):
        yield str(part.get("type"))
        for each in (*(part.get("normalizers") or ()), *(part.get("pretokenizers") or ())):
            yield from _types_of(each)


def _by_merges(whole: Facts, encoder: Encoder) -> tuple[Values, tuple[str, ...]]:
    """A byte-level tokenizer, and what is to be said of it. Raises ModelError where llama.cpp knows no such one."""
    kinds = {kind for kind in _types_of(whole.get("normalizer")) if kind != "Sequence"}
    if kinds - {"NFC"}:
        raise ModelError(
            f"The model's tokenizer changes text in a way ({', '.join(sorted(kinds - {'NFC'}))}) that llama.cpp does "
            "not know"
        )
    model = whole.part("model")
    pre = find_pre(whole.get("pre_tokenizer"), bool(model.get("ignore_merges")))
    own = encoder.tokenizer.backend_tokenizer.pre_tokenizer
    assert own is not None, "its structure was found"
    prove(pre, own, texts())
    merges = [" ".join(part.replace(" ", "\u0120") for part in merge) for merge in _merges(model)]
    values: Values = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre.name,
        "tokenizer.ggml.merges": merges,
    }
    return values, (COMPOSED,) if kinds else ()


def _merges(model: Facts) -> list[tuple[str, str]]:
    listed = model.get("merges")
    pairs = [each.split(" ") if isinstance(each, str) else each for each in listed] if isinstance(listed, list) else []
    return [(str(one), str(other)) for one, other in pairs]


def _lowest_ranks(model: Facts) -> dict[str, int]:
    """The rank of the first merge that makes each token: what comes first there has the highest score."""
    ranks: dict[str, int] = {}
    for rank, (one, other) in enumerate(_merges(model), 1):
        ranks.setdefault(one + other, rank)
    return ranks


def _tokens(whole: Facts, rows: int) -> list[str]:
    """The text of each row of the embedding; rows that no token has get one that no text contains.

    Raises ModelError where two have the same, with which llama.cpp ends.
    """
    vocab = whole.part("model").part("vocab").values
    named = {number: token for token, number in vocab.items()} | {each["id"]: each["content"] for each in _added(whole)}
    tokens = [str(named.get(number, f"[PAD{number}]")) for number in range(rows)]
    token, count = Counter(tokens).most_common(1)[0]
    if count > 1:
        raise ModelError(f"The model's tokenizer has the token {shortened(token, 40)!r} twice, so it cannot be written")
    return tokens


def _added(whole: Facts) -> list[dict[str, object]]:
    found = whole.get("added_tokens")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _types(whole: Facts, tokens: list[str], encoder: Encoder) -> list[int]:
    added = {each["content"]: CONTROL if each.get("special") else USER_DEFINED for each in _added(whole)}
    model = whole.part("model")
    vocab, fallback = model.part("vocab").values, bool(model.get("byte_fallback"))
    unknown = str(model.get("unk_token", "")) if fallback else ""

    def kind(token: str) -> int:
        if token == unknown:
            return UNKNOWN
        if token in added:
            return added[token]
        if token not in vocab:
            return UNUSED
        return BYTE if fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">") else NORMAL

    return [kind(token) for token in tokens]


def _ends(encoder: Encoder, rows: int) -> tuple[Values, tuple[str, ...]]:
    """Which tokens begin and end a text: always written, as llama.cpp has other ones for models that name none."""
    tokenizer = encoder.tokenizer
    stop = tokenizer(encoder.template.stop, add_special_tokens=False)["input_ids"]
    by_text = len(stop) != 1 or stop[0] not in tokenizer.added_tokens_decoder
    own = encoder.eos if by_text or encoder.default_template else int(stop[0])
    others = [number for number in encoder.stop_ids if number != own and not (by_text and number == stop[-1])]
    numbers = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": own,
        "padding_token_id": tokenizer.pad_token_id,
        "unknown_token_id": getattr(tokenizer, "unk_token_id", None),
        "eot_token_id": others[0] if others else None,
    }
    found: Values = {
        f"tokenizer.ggml.{name}": number for name, number in numbers.items() if number is not None and number < rows
    }
    found["tokenizer.ggml.add_bos_token"] = bool(encoder.bos)
    whole = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    found["tokenizer.ggml.add_eos_token"] = len(whole) > 1 and whole[-1] == tokenizer.eos_token_id
    notes = []
    if by_text and not encoder.default_template:
        end = encoder.template.stop
        notes.append(f"Its answers end with the text {end!r}, which no file can say: name it as a stop")
    if len(others) > 1:
        notes.append(f"Of {len(others) + 1} tokens that end an answer, the file names two")
    return found, tuple(notes)


def probes(encoder: Encoder) -> list[str]:
    """The texts whose tokens are compared, with the special tokens that the template writes."""
    added = [str(token) for token in encoder.tokenizer.added_tokens_decoder.values()]
    return texts([token for token in added if token in encoder.template.source or token == encoder.tokenizer.eos_token])


def other_tokens(tokenizer: Tokenizer, values: Values, probes: Sequence[str]) -> tuple[str, ...]:
    """The texts that are other tokens to a file with this metadata."""
    file = FileTokens(values)
    return tuple(text for text in probes if file.ids(text) != list(tokenizer(text)["input_ids"]))
