"""The bytes that a token stands for, so that logprobs can show half a character, too."""

from __future__ import annotations

from functools import lru_cache

from llm_installer.data.encoding.tokenizer import Tokenizer

_SPACE = "▁"  # the letter that stands for a space in SentencePiece


def _letters() -> dict[str, int]:
    """The letter by which byte-level tokenizers write each byte: its own where it can be seen, else one from 256 on."""
    seen = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + i): byte for i, byte in enumerate(others)}


class TokenBytes:
    """Token ids to bytes, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._written = {i: token for token, i in tokenizer.get_vocab().items()}
        self._added = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items()}
        decoder = repr(getattr(tokenizer.backend_tokenizer, "decoder", None)) if tokenizer.is_fast else ""
        self._letters = _letters() if "ByteLevel" in decoder else {}
        self.of = lru_cache(maxsize=1 << 16)(self._of)

    def _of(self, token: int) -> bytes:
        """Those of a special one are its name."""
        if token in self._added:
            return self._added[token].encode()
        written = self._written.get(token, "")
        if self._letters:
            return bytes(self._letters[letter] for letter in written if letter in self._letters)
        if len(written) == 6 and written.startswith("<0x") and written.endswith(">"):
            return bytes.fromhex(written[3:5])
        return written.replace(_SPACE, " ").encode()

    def text(self, token: int) -> str:
        """The same as text, for people; half a character is U+FFFD."""
        return self.of(token).decode("utf-8", "replace")
