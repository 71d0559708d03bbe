"""The proof of an adapter for another program: it is read back and compared with PEFT's own.

First their products are compared; then it takes the place of PEFT's own in the tuned model, which must answer the same.

Runs in a process of its own: python -m llm_installer.export.pairs.prove KIND MODEL LORA FILE TYPE PRECISION.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn

from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.export.adapter import ADAPTER
from llm_installer.export.child import tell
from llm_installer.export.chosen import run_of
from llm_installer.export.measure import answer_all, compare_answers, difference, look, predictions
from llm_installer.export.pairs.forms import form_of
from llm_installer.export.pairs.pairs import Pair
from llm_installer.export.pairs.receipt import AS, PairReceipt
from llm_installer.export.prove import asked_of, asked_with
from llm_installer.export.quantised import plain_name
from llm_installer.export.receipt import TOLERANCES
from llm_installer.inference.load import load_assistant


def compare(kind: str, folder: ModelDir, lora: Path, file: Path, types: tuple[str, str]) -> PairReceipt:
    """Compare an adapter that was written with PEFT's; `types` are those of its numbers and of the comparison.

    Raises ModelError where a model cannot be loaded.
    """
    dtype, precision = types
    assistant = load_assistant(folder, lora, precision=precision)
    model = assistant.model
    assert isinstance(model, PeftModel)
    questions, prompts = asked_with(assistant, asked_of(run_of(folder, lora)))
    tuned = look(assistant, prompts.ids)
    texts = [(*p, *a) for p, a in zip(prompts.ids, tuned.answers, strict=True)]
    found = form_of(kind).read(read_model_info(folder.weights, folder.root.name), file)
    layers = dict(_layers(model))
    largest, worst, wrong = apart(layers, found)
    if not wrong:
        for name, layer in layers.items():
            _put(layer, found[name])
    logits = predictions(model, texts)
    assert tuned.base is not None
    margin = max(TOLERANCES[AS[dtype]].margin, TOLERANCES[precision].margin)
    return PairReceipt(
        kind=kind,
        dtype=dtype,
        computed_in=precision,
        prompts=questions.source,
        tuned=difference(tuned.logits, logits, margin),
        base=difference(tuned.base, logits, margin),
        trained=difference(tuned.base, tuned.logits, margin),
        answers=compare_answers(prompts.shown, tuned, answer_all(assistant, prompts.ids), margin),
        modules=len(layers),
        largest=largest,
        worst=worst,
        wrong=wrong,
    )


def _layers(model: nn.Module) -> Iterator[tuple[str, Linear]]:
    """PEFT's layers by the names of the weights that they change."""
    for name, module in model.named_modules():
        if isinstance(module, Linear) and ADAPTER in module.scaling:
            yield plain_name(f"{name}.weight"), module


def apart(layers: Mapping[str, Linear], found: Mapping[str, Pair]) -> tuple[float, str, str]:
    """How far the products are apart as a share of the largest number, whose that is, and what does not fit at all."""
    other = sorted(set(layers) ^ set(found))
    if other:
        return 0.0, "", f"{other[0]} is {'missing' if other[0] in layers else 'nothing that was trained'}"
    largest, worst = 0.0, ""
    for name, layer in layers.items():
        pair = found[name]
        if (pair.b.shape[0], pair.a.shape[1]) != (layer.out_features, layer.in_features):
            return 0.0, "", f"{name} has another shape"
        off = _off(layer, pair)
        if not off <= largest:
            largest, worst = off, name
    return largest, worst, ""


@torch.no_grad()
def _off(layer: Linear, pair: Pair) -> float:
    delta = layer.get_delta_weight(ADAPTER).float()
    wanted: Tensor = delta.T if layer.fan_in_fan_out else delta
    off = (pair.b @ pair.a - wanted.cpu()).abs().max() / max(float(wanted.abs().max()), 1e-30)
    lengths = _lengths(layer) if layer.use_dora.get(ADAPTER) else None
    if (lengths is None) is not (pair.lengths is None):
        return float("nan")
    if lengths is not None and pair.lengths is not None:
        off = max(off, (pair.lengths - lengths).abs().max() / lengths.abs().max())
    return float(off)


def _lengths(layer: Linear) -> Tensor:
    """DoRA's length of each output."""
    found = layer.get_parameter(f"lora_magnitude_vector.{ADAPTER}.weight")
    return found.detach().flatten().float().cpu()


@torch.no_grad()
def _put(layer: Linear, pair: Pair) -> None:
    """Let the layer compute with the pair."""
    for half, value in (("lora_A", pair.a), ("lora_B", pair.b)):
        old = layer.get_parameter(f"{half}.{ADAPTER}.weight")
        layer.get_submodule(f"{half}.{ADAPTER}").weight = nn.Parameter(value.to(old))
    layer.scaling[ADAPTER] = 1.0


def main(arguments: Sequence[str]) -> None:
    """Print what was found, or what is wrong, as one line of JSON."""
    kind, model, lora, file, dtype, precision = arguments
    tell(lambda: asdict(compare(kind, ModelDir(Path(model)), Path(lora), Path(file), (dtype, precision))))


if __name__ == "__main__":
    main(sys.argv[1:])
