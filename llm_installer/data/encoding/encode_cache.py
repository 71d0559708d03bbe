"""Encoded examples kept on disk: made once, on all cores, and found again by everything they depend on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import xxhash

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example, Message
from llm_installer.core.home import cache_dir
from llm_installer.core.voice import Progress
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_many import encode_all
from llm_installer.data.encoding.encode_parallel import REFUSED, encode_to_folder
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.image_rows import image_stamps, with_images
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.store.arrow import ExampleView
from llm_installer.data.store.cache import cached, code_hash, content_hash

SMALL = 2000
"""Below this many examples, keeping rows on disk costs more than encoding them again."""
_LIBRARIES = ("tokenizers", "transformers", "jinja2")


def encode(examples: Sequence[Example], encoder: Encoder, progress: Progress) -> tuple[EncodedSet, list[Dropped]]:
    """All rows, not truncated, and the examples that are skipped because the template refuses them.

    Only rows of examples as they are on disk are kept; texts in pieces and prefixed prompts are encoded each time.
    `progress` hears first how many examples there are, and nothing where none has to be encoded. Raises DataError when
    the disk is full.
    """
    if len(examples) < SMALL or not isinstance(examples, ExampleView):
        if len(examples):
            progress(0, len(examples))
        return encode_all(examples, encoder)

    def build(work: Path) -> bool:
        progress(0, len(examples))
        encode_to_folder(examples, encoder, work, progress)
        return bool(encoder.tokenizer.is_fast)

    folder = cache_dir() / "encoded"
    try:
        found = cached(folder, _key(examples, encoder), build)
        return with_images(EncodedSet.load(found), examples), _dropped(found, examples)
    except OSError as error:
        raise DataError(
            f"The encoded data cannot be kept in {folder} ({error.strerror or error}); "
            f"make room there, or set LLM_HOME to a folder on another disk"
        ) from None


def _dropped(folder: Path, examples: ExampleView) -> list[Dropped]:
    with (folder / REFUSED).open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return [Dropped(examples[index].origin, reason, partly) for index, reason, partly in found]


def _key(examples: ExampleView, encoder: Encoder) -> str:
    """A name for the result, the same for the same examples, tokenizer, template and code."""
    parts = [
        content_hash(examples.store.path),
        xxhash.xxh3_128_hexdigest(examples.indices.tobytes()),
        _tokenizer(encoder),
        encoder.template.source,
        # Some templates write today's date.
        _rendered(encoder),
        encoder.train_on_prompt,
        [encoder.vision.processor.to_json_string(), image_stamps(examples)] if encoder.vision else encoder.no_vision,
        code_hash(),
        [version(library) for library in _LIBRARIES],
    ]
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


def _tokenizer(encoder: Encoder) -> list[object]:
    """Everything that the ids depend on. For a slow tokenizer that is not known: its rows are not used again."""
    tokenizer = encoder.tokenizer
    backend = xxhash.xxh3_128_hexdigest(tokenizer.backend_tokenizer.to_str().encode()) if tokenizer.is_fast else ""
    return [type(tokenizer).__name__, sorted(tokenizer.special_tokens_map.items()), encoder.bos, encoder.eos, backend]


def _rendered(encoder: Encoder) -> str:
    try:
        return encoder.template.prompt([Message("system", "a"), Message("user", "b")])
    except CannotRender as error:
        return str(error)
