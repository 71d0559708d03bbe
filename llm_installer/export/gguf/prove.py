"""The proof of a GGUF file: the model directory is looked at, then the file in its place.

Runs in a process of its own, since a file that is wrong may end the process that opens it:
python -m llm_installer.export.gguf.prove MODEL FILE TYPE PRECISION prints what it found as the last line.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from llm_installer.core.errors import InstallerError
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import no_telemetry, quiet_libraries
from llm_installer.data.encoding.encode import Encoder
from llm_installer.export.gguf.facts import Values
from llm_installer.export.gguf.read import load_model, read_values
from llm_installer.export.gguf.receipt import LIMITS, FileReceipt
from llm_installer.export.gguf.template import KEY, difference
from llm_installer.export.gguf.vocabulary import other_tokens, probes
from llm_installer.export.measure import BUNDLED, answer_all, asked, compare_answers, look, predictions
from llm_installer.export.measure import difference as apart
from llm_installer.inference.load import load_assistant
from llm_installer.runs.compare import Questions

_SOURCE = "a few bundled prompts"


def compare(folder: ModelDir, file: Path, kind: str, precision: str) -> FileReceipt:
    """Compare a file with the model directory that it was made of, one model in memory at a time.

    Raises ModelError where one of them cannot be loaded.
    """
    values = read_values(file)
    assistant = load_assistant(folder, None, precision=precision)
    config, device, dtype = assistant.model.config, assistant.model.device, assistant.model.dtype
    limit, prompts = LIMITS[kind], asked(assistant, Questions(_SOURCE, texts=BUNDLED))
    ours = look(assistant, prompts.ids)
    answered = [(*p, *a) for p, a in zip(prompts.ids, ours.answers, strict=True)]
    assistant = replace(assistant, model=torch.nn.Module())  # type: ignore[arg-type]  # frees it
    gc.collect()
    loaded, whole = load_model(file, config, dtype)
    theirs = replace(assistant, model=loaded.to(device))  # type: ignore[arg-type]
    return FileReceipt(
        dtype=kind,
        computed_in=precision,
        prompts=_SOURCE,
        tuned=apart(ours.logits, predictions(theirs.model, answered), limit.margin),
        answers=compare_answers(prompts.shown, ours, answer_all(theirs, prompts.ids), limit.margin),
        texts=len(probes(assistant.encoder)),
        other_tokens=other_tokens(assistant.encoder.tokenizer, values, probes(assistant.encoder)),
        other_template=_other_template(assistant.encoder, values),
        config="file" if whole else "ours",
    )


def _other_template(encoder: Encoder, values: Values) -> str:
    written = values.get(KEY)
    if encoder.default_template:
        return str(written or "")
    return difference(encoder.tokenizer, str(encoder.tokenizer.chat_template), str(written))


def main(arguments: Sequence[str]) -> None:
    """Print what was found, or what is wrong, as one line of JSON."""
    model, file, kind, precision = arguments
    no_telemetry()
    try:
        with quiet_libraries():
            found: dict[str, object] = asdict(compare(ModelDir(Path(model)), Path(file), kind, precision))
    except InstallerError as error:
        found = {"error": str(error)}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
