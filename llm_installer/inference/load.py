"""A base model and, if there is one, the adapter that is really active on it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from llm_installer.core.adapter_info import CONFIG, WEIGHT_NAMES, AdapterInfo, merged_info, read_adapter_info
from llm_installer.core.errors import AdapterError
from llm_installer.core.hardware import probe_hardware
from llm_installer.core.json_file import read_object
from llm_installer.core.model_info import ModelInfo, read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.reading import reading, reason
from llm_installer.core.safetensors import read_header
from llm_installer.core.text import loss_text, short_path, shortened
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.inference.taken_off import taken_off
from llm_installer.models.base import load_base
from llm_installer.models.from_files import is_finite
from llm_installer.models.peft_names import config_from_files, names_as_given
from llm_installer.models.proof import refuse_broken
from llm_installer.models.quantise import check_ready
from llm_installer.planning.chooser import choose_precision
from llm_installer.planning.method import FLOAT8, QUANTISED, Method, base_quantisation
from llm_installer.planning.registry import find_handler

INSTEAD = "choose another adapter with --lora, or use the base model alone with --no-lora"


@dataclass(frozen=True)
class Assistant:
    """A model ready to answer."""

    model: PreTrainedModel | PeftModel
    encoder: Encoder
    style: str
    """`chat` through the template, `text` for plain continuation."""
    adapter: str
    """Which adapter is active, in words for the user; empty for none."""
    merged: str = ""
    """What a merged model was made of, in words; else empty."""


def load_assistant(folder: ModelDir, lora: Path | None, quantised: str = "", precision: str = "") -> Assistant:
    """Load the base, quantised as its files are or as `quantised` names, and put `lora` on it; in the `precision` that
    is best here, where none is named.

    Raises AdapterError when the adapter is damaged, made for another base, or without effect, and UsageError for a base
    that cannot be held so.
    """
    return next(assistants(folder, [lora], quantised, precision))


def assistants(
    folder: ModelDir, loras: Sequence[Path | None], quantised: str = "", precision: str = ""
) -> Iterator[Assistant]:
    """An assistant for each adapter, None for the base alone, one after the other on one base in memory: each is taken
    off again when the next one is asked for, and must not be used any more then.

    Raises what load_assistant raises; what the files of any adapter tell, before a weight is read.
    """
    info = read_model_info(folder.weights, folder.root.name)
    for lora in loras:
        _files(folder, info, lora)
    base = load_base_of(folder, quantised, precision)
    for lora in loras:
        yield base.put_on(lora)


@dataclass
class LoadedBase:
    """A base in memory, on which one adapter at a time is put."""

    folder: ModelDir
    info: ModelInfo
    model: PreTrainedModel
    """Without an adapter's layers only while none is on it."""
    quantised: str
    _on: tuple[PeftModel, dict[str, Tensor]] | None = None
    """The adapter that is on it, and the biases that the base had before."""

    def put_on(self, lora: Path | None) -> Assistant:
        """The base with this adapter, or alone; the one before is taken off. Raises AdapterError as load_assistant."""
        about, encoder = _files(self.folder, self.info, lora)
        encoder.template.thinks = about.thoughts
        style = about.style or ("text" if encoder.default_template else "chat")
        self.take_off()
        if lora is None:
            return Assistant(self.model, encoder, style, "", about.merged)
        biases = {name: value.clone() for name, value in self.model.named_parameters() if name.endswith("bias")}
        model = _put_on(self.model, lora, self.folder).eval()
        self._on = model, biases
        try:
            active = _described(model, encoder, lora, about) + _on_which_base(about.quantised, self.quantised)
        except AdapterError:
            self.take_off()
            raise
        return Assistant(model, encoder, style, active)

    def take_off(self) -> None:
        """The base alone, as it was before any adapter."""
        if self._on:
            self.model, self._on = taken_off(*self._on), None


def load_base_of(folder: ModelDir, quantised: str = "", precision: str = "") -> LoadedBase:
    """Load the base as load_assistant does, without an adapter."""
    info = read_model_info(folder.weights, folder.root.name)
    quantised = base_quantisation(quantised, info)
    hardware = probe_hardware()
    precision = precision or choose_precision(info, find_handler(info), hardware)[0]
    check_ready(Method(quantised=quantised))
    base = load_base(folder.weights, precision, hardware.device, quantised)
    refuse_broken(base, folder.weights)
    base.eval()  # type: ignore[no-untyped-call]
    return LoadedBase(folder, info, base, quantised)


def _files(folder: ModelDir, info: ModelInfo, lora: Path | None) -> tuple[AdapterInfo, Encoder]:
    """What the files of an adapter tell, or those of the base where there is none."""
    return _read_info(lora, folder) if lora else merged_info(folder.info), _encoder(info, lora)


def _encoder(info: ModelInfo, lora: Path | None) -> Encoder:
    """The adapter's own tokenizer and template where it has them, else the base's."""
    own = lora if lora and (lora / "tokenizer_config.json").is_file() else None
    encoder = load_encoder(info, adapter=own)
    if own:
        _refuse_other_vocabulary(encoder, info, own)
    return encoder


def _read_info(lora: Path, folder: ModelDir) -> AdapterInfo:
    try:
        return read_adapter_info(lora, folder)
    except AdapterError as error:
        raise AdapterError(f"{error}; {INSTEAD}") from None


def _put_on(model: PreTrainedModel, lora: Path, folder: ModelDir) -> PeftModel:
    made_for = shortened(str(read_object(lora / CONFIG).get("base_model_name_or_path")), 100)

    def refuse(why: str) -> AdapterError:
        return AdapterError(
            f"The adapter {short_path(lora)}, made for {made_for}, does not fit {folder.root.name} ({why}); {INSTEAD}"
        )

    try:
        with warnings.catch_warnings(record=True) as warned, reading("it", refuse, (lora / CONFIG,), "PEFT"):
            warnings.simplefilter("always")
            config = config_from_files(lora, model)
            with names_as_given() if config else nullcontext():
                adapted = PeftModel.from_pretrained(model, str(lora), config=config)
    except (RuntimeError, ImportError) as error:
        raise refuse(reason(error)) from None
    assert isinstance(adapted, PeftModel)
    _refuse_incomplete(adapted, lora, [str(each.message) for each in warned], refuse)
    return adapted


def _refuse_incomplete(model: PeftModel, lora: Path, warned: list[str], refuse: Callable[[str], AdapterError]) -> None:
    """Raise what `refuse` makes where the adapter is only in part on the base, or holds values that are not numbers."""
    if any("missing adapter keys" in text for text in warned):
        raise refuse("it lacks weights for some of the layers that it names")
    layers = {name for name, _ in model.named_modules()}
    file = lora / WEIGHT_NAMES[0]
    adapted = {
        name.partition(".lora_")[0] for name in (read_header(file) if file.is_file() else ()) if ".lora_" in name
    }
    # transformers may fuse the experts of older files.
    strange = sorted(name for name in adapted - layers if "experts" not in name)
    if strange:
        raise refuse(f"it holds weights for {shortened(strange[0], 150)}, which this model does not have")
    for name, weight in model.named_parameters():
        if (".lora_" in name or ".modules_to_save." in name) and not is_finite(weight):
            raise AdapterError(
                f"The adapter {short_path(lora)} is damaged: {name} holds values that are not numbers; {INSTEAD}"
            )


def _refuse_other_vocabulary(encoder: Encoder, info: ModelInfo, lora: Path) -> None:
    """Raise AdapterError where the adapter's own tokenizer means other tokens by the ids of the base."""
    own, base = encoder.tokenizer.get_vocab(), load_tokenizer(info.path).get_vocab()
    tokens = {number: token for token, number in base.items()}
    other = next((token for token, number in own.items() if tokens.get(number, token) != token), None)
    beyond = next((token for token, number in own.items() if token not in base and number >= info.vocab_size), None)
    if other is None and (beyond is None or not info.vocab_size):
        return
    if other is not None:
        token, known = shortened(other, 30), shortened(tokens[own[other]], 30)
        why = f"the id {own[other]} is {token!r} to it, and {known!r} to the base"
    else:
        why = f"it has ids up to {max(own.values()):,}, and the base knows {info.vocab_size:,}"
    raise AdapterError(
        f"The adapter {short_path(lora)} was made with another vocabulary than that of {info.name} ({why}); {INSTEAD}"
    )


def _on_which_base(trained: str, loaded: str) -> str:
    """What to say where the base is not quantised as it was in training."""
    on = {"": "unquantised"} | {name: words.partition(" ")[0] for name, words in QUANTISED.items()}
    if trained == loaded or trained not in on:  # a word that no version of this program has written says nothing
        return ""
    same = f" (add --use-{on[trained].replace('-', '')} to use the same)" if trained and trained != FLOAT8 else ""
    return f", trained on the {on[trained]} base but used on the {on[loaded]} one{same}"


@torch.inference_mode()
def _described(model: PeftModel, encoder: Encoder, lora: Path, about: AdapterInfo) -> str:
    """The adapter in words, once it is seen to change what the model computes. Raises AdapterError when it does not."""
    ids = torch.tensor([encoder.text_ids("Hello, who are you?")], device=model.device)
    tuned = model(input_ids=ids).logits
    with model.disable_adapter():
        base = model(input_ids=ids).logits
    change = float((tuned - base).abs().max())
    if not math.isfinite(change):
        raise AdapterError(
            f"The adapter {short_path(lora)} makes the model compute values that are not numbers; {INSTEAD}"
        )
    if change == 0:
        raise AdapterError(f"The adapter {short_path(lora)} changes nothing: it was never trained; {INSTEAD}")
    real = lora.resolve()
    parts = [real.parent.name if real.name == "adapter" else short_path(lora)]
    if about.best_step:
        parts.append(f"step {about.best_step:,}")
    if about.best_loss is not None:
        parts.append(f"loss {loss_text(about.base_loss)} -> {loss_text(about.best_loss)}")
    return ", ".join(parts)
