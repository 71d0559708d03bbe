"""The proof of a GGUF file: the model directory is looked at, then the file in its place.

Runs in a process of its own, since a file that is wrong may end the process that opens it:
python -m llm_installer.export.gguf.prove MODEL FILE TYPE PRECISION LORA TOKENIZER prints what it found as the last
line; the last two may be empty.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.export.child import tell
from llm_installer.export.chosen import run_of
from llm_installer.export.gguf.facts import Values
from llm_installer.export.gguf.read import load_model, read_values
from llm_installer.export.gguf.receipt import LIMITS, FileReceipt
from llm_installer.export.gguf.template import KEY, difference
from llm_installer.export.gguf.vocabulary import other_tokens, probes
from llm_installer.export.measure import answer_all, compare_answers, look, predictions
from llm_installer.export.measure import difference as apart
from llm_installer.export.prove import asked_of, asked_with
from llm_installer.inference.load import Assistant, load_assistant


@dataclass(frozen=True)
class Original:
    """What a file was made of."""

    folder: ModelDir
    lora: Path | None = None
    """The adapter that is in it."""
    tokenizer: Path | None = None
    """The adapter whose tokenizer is in it."""


def compare(of: Original, file: Path, kind: str, precision: str) -> FileReceipt:
    """Compare a file with what it was made of, one model in memory at a time.

    Raises ModelError where one of them cannot be loaded.
    """
    values = read_values(file)
    assistant = _original(of, precision)
    config, device, dtype = assistant.model.config, assistant.model.device, assistant.model.dtype
    limit = LIMITS[kind]
    row = run_of(of.folder, of.lora) if of.lora else None
    questions, prompts = asked_with(assistant, asked_of(row))
    ours = look(assistant, prompts.ids)
    answered = [(*p, *a) for p, a in zip(prompts.ids, ours.answers, strict=True)]
    assistant = replace(assistant, model=torch.nn.Module())  # type: ignore[arg-type]  # frees it
    gc.collect()
    loaded, whole = load_model(file, config, dtype)
    theirs = replace(assistant, model=loaded.to(device))  # type: ignore[arg-type]
    logits = predictions(theirs.model, answered)
    base = ours.base if of.lora else None
    return FileReceipt(
        dtype=kind,
        computed_in=precision,
        prompts=questions.source,
        tuned=apart(ours.logits, logits, limit.margin),
        base=None if base is None else apart(base, logits, limit.margin),
        trained=None if base is None else apart(base, ours.logits, limit.margin),
        answers=compare_answers(prompts.shown, ours, answer_all(theirs, prompts.ids), limit.margin),
        texts=len(probes(assistant.encoder)),
        other_tokens=other_tokens(assistant.encoder.tokenizer, values, probes(assistant.encoder)),
        other_template=_other_template(assistant.encoder, values),
        config="file" if whole else "ours",
    )


def _original(of: Original, precision: str) -> Assistant:
    assistant = load_assistant(of.folder, of.lora, precision=precision)
    if of.tokenizer is None or of.lora is not None:
        return assistant
    encoder = load_encoder(read_model_info(of.folder.weights, of.folder.root.name), adapter=of.tokenizer)
    return replace(assistant, encoder=encoder)


def _other_template(encoder: Encoder, values: Values) -> str:
    written = values.get(KEY)
    if encoder.default_template:
        return str(written or "")
    return difference(encoder.tokenizer, str(encoder.tokenizer.chat_template), str(written))


def main(arguments: Sequence[str]) -> None:
    """Print what was found, or what is wrong, as one line of JSON."""
    model, file, kind, precision, *adapters = arguments
    of = Original(ModelDir(Path(model)), *(Path(each) if each else None for each in adapters))
    tell(lambda: asdict(compare(of, Path(file), kind, precision)))


if __name__ == "__main__":
    main(sys.argv[1:])
