"""What is used of the tokenizers and processors of transformers, which have no common type that names it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict, cast

from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import head, is_pointer, pointer
from llm_installer.core.reading import reading
from llm_installer.core.text import short_path

if TYPE_CHECKING:
    from tokenizers import AddedToken, Encoding
    from tokenizers import Tokenizer as FastTokenizer
    from transformers import BatchEncoding


_SUFFIXES = (".json", ".model", ".txt", ".jinja", ".tiktoken")
_ADDED, _MOST_ADDED = b'"single_word"', 200_000
"""What each token beside the vocabulary says of itself in tokenizer.json, and how many are added within a minute.
Large models have some thousands, and those that speak a token for each sound."""
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")


class Tokenizer(Protocol):
    """A tokenizer of transformers, fast or slow."""

    is_fast: bool
    chat_template: str | None
    bos_token: str
    bos_token_id: int | None
    eos_token: str
    eos_token_id: int | None
    pad_token: str | None
    pad_token_id: int | None
    special_tokens_map: Mapping[str, object]
    added_tokens_decoder: Mapping[int, AddedToken]

    @property
    def backend_tokenizer(self) -> FastTokenizer:
        """The fast tokenizer itself; only where `is_fast`."""

    def __call__(self, text: str, **options: object) -> BatchEncoding:
        """Token ids of a text, under "input_ids"."""

    def apply_chat_template(self, turns: Sequence[Mapping[str, object]], **options: object) -> object:
        """The text of a conversation, with tokenize=False."""

    def decode(self, ids: Sequence[int], **options: object) -> str:
        """The text of token ids."""

    def convert_tokens_to_ids(self, token: str) -> int:
        """The id of one token."""

    def get_vocab(self) -> Mapping[str, int]:
        """The id of every token."""

    def save_pretrained(self, folder: str | Path) -> object:
        """Write its files into a folder."""


class Replacement(TypedDict):
    """What a processor wrote in the place of an image token."""

    span: tuple[int, int]
    """The characters of the image token in the text."""
    new_span: tuple[int, int]
    """Those of the replacement in the new text."""
    replacement: str


class Processor(Protocol):
    """A processor of transformers: a tokenizer and what turns images into arrays."""

    tokenizer: Tokenizer
    chat_template: str | None
    image_token: str
    image_token_ids: Sequence[int | None]
    model_input_names: Sequence[str]

    def __call__(self, **inputs: object) -> BatchEncoding:
        """Ids of texts and arrays of images."""

    def to_json_string(self) -> str:
        """All of its settings."""


def only_encoding(found: BatchEncoding) -> Encoding:
    """The tokens and offsets of the one text that a fast tokenizer was given."""
    assert found.encodings, "only fast tokenizers know offsets"
    return found.encodings[0]


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the vocabulary of a tokenizer, in any of its usual files."""
    names = {file.name for file in folder.iterdir()}
    return bool(names & set(VOCABULARIES)) or any(name.endswith((".model", ".tiktoken")) for name in names)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model or adapter folder. Raises ModelError when it cannot be loaded."""
    from transformers import AutoTokenizer

    for file in sorted(folder.glob("*")):
        if file.suffix in _SUFFIXES and file.is_file() and is_pointer(head(file)):
            raise ModelError(pointer(short_path(file)))
    file = folder / VOCABULARIES[0]
    if file.is_file() and (added := file.read_bytes().count(_ADDED)) > _MOST_ADDED:
        raise ModelError(
            f"{short_path(file)} has {added:,} tokens beside its vocabulary, and at most {_MOST_ADDED:,} can be read"
        )
    with reading(f"The tokenizer in {short_path(folder)}", files=(folder / "tokenizer_config.json",)):
        tokenizer = cast(
            Tokenizer, AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        )
        tokenizer("a", add_special_tokens=True)  # some fields are only looked at when it is used
        _refuse_without_unknown(tokenizer)
        return tokenizer


def _refuse_without_unknown(tokenizer: Tokenizer) -> None:
    """Raise ValueError where words that are in no vocabulary would be an error in the middle of the data."""
    model = tokenizer.backend_tokenizer.model if tokenizer.is_fast else None
    if model is None or type(model).__name__ != "WordPiece":
        return
    if model.unk_token not in tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False):
        raise ValueError(f"its vocabulary has no {model.unk_token}, which stands for what it lacks")


def first_line(error: Exception) -> str:
    """The first line of an error that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "unknown reason")
