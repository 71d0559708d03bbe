"""Text to token ids as llama.cpp does it with what is written in a file: the proof that the tokenizer arrived.

Two ways there are: `llama` merges whatever two neighbours make the token with the highest score; `gpt2` cuts text by
expressions and merges by the list of merges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from llm_installer.export.gguf.facts import Value
from llm_installer.export.gguf.pre_tokenizers import PRES, pieces, spelled

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of tokens."""
SPACE = "\u2581"


@dataclass(frozen=True)
class FileTokens:
    """The tokenizer that a file describes."""

    values: Mapping[str, Value]
    """Metadata of the file, with whole arrays."""

    def ids(self, text: str) -> list[int]:
        """The ids of a text, with the tokens that are added before and after it; special tokens in it are such."""
        found: list[int] = []
        if self._flag("add_bos_token"):
            found.append(self._id("bos_token_id"))
        after_special = True
        for part in self._parts(text):
            if isinstance(part, int):
                found.append(part)
            elif self.values["tokenizer.ggml.model"] == "llama":
                prefix = " " if after_special and self._flag("add_space_prefix") else ""
                found += self._by_score((prefix + part).replace(" ", SPACE))
            else:
                found += [i for piece in pieces(self._expressions, part) for i in self._by_merges(spelled(piece))]
            after_special = isinstance(part, int)
        if self._flag("add_eos_token"):
            found.append(self._id("eos_token_id"))
        return found

    def _flag(self, name: str) -> bool:
        return self.values.get(f"tokenizer.ggml.{name}") is True

    def _id(self, name: str) -> int:
        found = self.values[f"tokenizer.ggml.{name}"]
        assert isinstance(found, int)
        return found

    def _list(self, name: str) -> list[str]:
        found = self.values[f"tokenizer.ggml.{name}"]
        assert isinstance(found, list)
        return [str(each) for each in found]

    @cached_property
    def _tokens(self) -> list[str]:
        return self._list("tokens")

    @cached_property
    def _known(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self._tokens)}

    @cached_property
    def _scores(self) -> list[float]:
        return [float(each) for each in self._list("scores")]

    @cached_property
    def _ranks(self) -> dict[str, int]:
        return {merge: rank for rank, merge in enumerate(self._list("merges"))}

    @cached_property
    def _ignores_merges(self) -> bool:
        return next(pre.ignores_merges for pre in PRES if pre.name == self.values["tokenizer.ggml.pre"])

    @cached_property
    def _expressions(self) -> tuple[str, ...]:
        return next(pre.expressions for pre in PRES if pre.name == self.values["tokenizer.ggml.pre"])

    @cached_property
    def _specials(self) -> list[str]:
        types = [int(each) for each in self._list("token_type")]
        found = [t for t, kind in zip(self._tokens, types, strict=True) if kind in (CONTROL, USER_DEFINED, UNKNOWN)]
        return sorted((token for token in found if token), key=len, reverse=True)

    def _parts(self, text: str) -> Iterator[str | int]:
        """Special tokens by their id, and the texts between them; of two special tokens the longer is found first."""
        parts: list[str | int] = [text]
        for special in self._specials:
            cut: list[str | int] = []
            for part in parts:
                if isinstance(part, int) or special not in part:
                    cut.append(part)
                    continue
                for number, piece in enumerate(part.split(special)):
                    cut += [self._known[special], piece] if number else [piece]
            parts = cut
        return (part for part in parts if part != "")

    def _by_score(self, text: str) -> list[int]:
        symbols = list(text)
        while True:
            scored = [
                (self._scores[self._known[pair]], -at)
                for at in range(len(symbols) - 1)
                if (pair := symbols[at] + symbols[at + 1]) in self._known
            ]
            if not scored:
                break
            at = -max(scored)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        return [number for symbol in symbols for number in self._or_bytes(symbol)]

    def _or_bytes(self, symbol: str) -> list[int]:
        if symbol in self._known:
            return [self._known[symbol]]
        unknown = self.values.get("tokenizer.ggml.unknown_token_id", 0)
        assert isinstance(unknown, int)
        return [self._known.get(f"<0x{byte:02X}>", unknown) for byte in symbol.encode("utf-8", "surrogatepass")]

    def _by_merges(self, word: str) -> list[int]:
        if self._ignores_merges and word in self._known:
            return [self._known[word]]
        symbols = list(word)
        while len(symbols) > 1:
            pairs = [f"{one} {other}" for one, other in pairwise(symbols)]
            rank, at = min((self._ranks.get(pair, 1 << 60), at) for at, pair in enumerate(pairs))
            if rank == 1 << 60:
                break
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        return [self._known[symbol] for symbol in symbols if symbol in self._known]
