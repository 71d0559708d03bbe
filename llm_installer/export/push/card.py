"""The model card of what is pushed, from the run's own record: what it was made of, what it changed, how it is used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.hub_base import HubBase
from llm_installer.core.markdown import document, plain, table
from llm_installer.core.model_card import NOTE, facts, peft_code
from llm_installer.core.text import counted
from llm_installer.export.engines import OLLAMA, VLLM, Adapter, Module, findings, served_name, vllm_words
from llm_installer.export.push.request import ADAPTER, GGUF, MERGED
from llm_installer.planning.plan import flat
from llm_installer.runs.report import COMPARED

LIBRARY = {ADAPTER: "peft", MERGED: "transformers", GGUF: "gguf"}
_TITLE = {ADAPTER: "A LoRA adapter for {}", MERGED: "{}, fine-tuned", GGUF: "{}, fine-tuned, as GGUF"}
_LICENCES = (
    ("apache-2.0", r"Apache License\s+Version 2\.0"),
    ("mit", r"\bMIT License\b|Permission is hereby granted, free of charge"),
    ("bsd-3-clause", r"BSD 3-Clause"),
    ("llama3.2", r"LLAMA 3\.2 COMMUNITY LICENSE"),
    ("llama3.1", r"LLAMA 3\.1 COMMUNITY LICENSE"),
    ("llama3", r"META LLAMA 3 COMMUNITY LICENSE"),
    ("gemma", r"Gemma Terms of Use"),
    ("cc-by-4.0", r"Attribution 4\.0 International"),
)
"""What hubs call a licence, and how its text begins."""
_BASE = "THE_BASE"
"""What stands in code for a base that is on no hub."""
_PLAN = (
    ("mode", "mode"), ("rank", "lora_r"), ("alpha", "lora_alpha"), ("adapted layers", "target_modules"),
    ("learning rate", "learning_rate"), ("schedule", "schedule"), ("epochs", "epochs"),
    ("batch size", "effective_batch_size"), ("sequence length", "max_seq_length"), ("precision", "precision"),
    ("weight decay", "weight_decay"), ("seed", "seed"),
)  # fmt: skip
"""(what it is called, its name in plan.json)."""


@dataclass(frozen=True)
class Told:
    """All that a card is made of."""

    kind: str
    repo: str
    base: HubBase | None
    """None where the base is on no hub."""
    model: str
    """The name of the base's directory."""
    licence: str
    """As hubs call it; empty where it is not known."""
    info: Mapping[str, object]
    """The content of adapter_info.json; empty for an adapter that was made elsewhere."""
    adapter: Adapter
    compared: str = ""
    """What the report says about base and tuned model."""
    picture: str = ""
    """The file name of the curves."""
    files: tuple[str, ...] = ()
    """The names of what is pushed with it."""

    @property
    def name(self) -> str:
        """The base, in words."""
        return self.base.id if self.base else self.model


def licence_of(folder: Path) -> str:
    """The licence of the model in a folder, as hubs call it, from its LICENSE or README; empty where neither says."""
    for file in sorted(folder.glob("README.md")):
        text = file.read_text(encoding="utf-8", errors="replace")
        front = text[4:].partition("\n---")[0] if text.startswith("---\n") else ""
        if found := re.search(r"^license: *['\"]?([\w.-]+)['\"]? *$", front, re.M):
            return found[1]
    for file in sorted(folder.glob("LICENSE*")):
        text = file.read_text(encoding="utf-8", errors="replace")[:2000]
        if name := next((name for name, words in _LICENCES if re.search(words, text)), ""):
            return name
    return ""


def card(told: Told) -> str:
    """README.md."""
    return document(
        [
            list(_header(told)),
            [f"# {_TITLE[told.kind].format(plain(told.name))}"],
            list(_intro(told)),
            table(("", ""), _facts(told)),
            [NOTE] if told.info else [],
            [f"![Loss over the run]({told.picture})"] if told.picture else [],
            [COMPARED, "", *told.compared.splitlines()] if told.compared else [],
            _settings(told),
            _end_token(told),
            ["## Use it"],
            *_uses(told),
            ["Made with LLM Installer."],
        ]
    )


def _header(told: Told) -> Iterator[str]:
    """What hubs read."""
    yield "---"
    yield f"library_name: {LIBRARY[told.kind]}"
    if told.base:
        yield f"base_model: {json.dumps(told.base.id)}"
        yield f"base_model_relation: {'adapter' if told.kind == ADAPTER else 'finetune'}"
    if told.licence:
        yield f"license: {told.licence}"
    yield from ("pipeline_tag: text-generation", "tags:", "- lora", "- llm-installer")
    if not told.licence:
        yield "inference: false"
    yield "---"


def _intro(told: Told) -> Iterator[str]:
    if told.base:
        commit = f" at {told.base.revision[:12]}" if told.base.revision else ""
        yield f"The base is [{plain(told.base.id)}](https://huggingface.co/{told.base.id}){commit}."
    else:
        where = ": `adapter_info.json` has the fingerprint of its weights" if told.kind == ADAPTER and told.info else ""
        yield f"The base, {plain(told.model)}, is on no hub{where}."
    if told.licence:
        yield f"Its licence is `{told.licence}`, which holds for this model, too."
    else:
        yield "The licence of the base was not found; whoever uses this must look it up."


def _facts(told: Told) -> list[tuple[str, str]]:
    plan = _plan(told)
    rows = plan.get("rows")
    about = [row for row in facts(told.info) if row[1] not in ("-", "None of None")] if told.info else []
    if isinstance(rows, int) and rows and about and about[0][0] == "trained on":
        about[0] = (about[0][0], f"{about[0][1]} ({counted(rows, 'training row')})")
    return [("base", told.name), ("licence", told.licence or "not known"), *about]


def _plan(told: Told) -> dict[str, object]:
    plan = told.info.get("plan")
    return flat(plan) if isinstance(plan, Mapping) else {}


def _settings(told: Told) -> list[str]:
    plan = _plan(told)
    why = plan.get("why")
    reasons = why if isinstance(why, Mapping) else {}
    rows = [(name, _value(plan[key]), _reason(reasons.get(key))) for name, key in _PLAN if key in plan]
    return ["## How it was trained", "", *table(("", "value", "why"), rows)] if rows else []


def _reason(why: object) -> str:
    """Why a value was chosen; nothing where somebody set it, whom a reader of the card does not know."""
    return "" if str(why).startswith("you set") else str(why or "")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _end_token(told: Told) -> list[str]:
    """That answers can end, where the base could not say so."""
    taught = told.adapter.given("trainable_token_indices")
    if not isinstance(taught, Mapping):
        return []
    ids = ", ".join(str(token) for tokens in taught.values() if isinstance(tokens, list) for token in tokens)
    brings = "The adapter brings" if told.kind == ADAPTER else "The model has"
    return [
        "## How answers end",
        "",
        f"The base never learned the token that ends answers (id {ids}). {brings} output weights of its own for it.",
    ]


def _uses(told: Told) -> Iterator[list[str]]:
    if told.kind == ADAPTER:
        yield from _adapter_uses(told)
    elif told.kind == MERGED:
        yield from _merged_uses(told.repo)
    else:
        yield from _gguf_uses(told)


def _adapter_uses(told: Told) -> Iterator[list[str]]:
    base = told.base.id if told.base else _BASE
    yield ["With PEFT:", "", *peft_code(told.repo, base="" if told.base else _BASE)]
    if not told.base:
        yield [f"`{_BASE}` is the folder with the weights of {plain(told.model)} on your machine."]
    yield from _vllm(told, base)
    stops = [finding.said for finding in findings(OLLAMA, told.adapter)]
    after = f" {stops[0]}." if stops else ""
    yield [f"With Ollama, llama.cpp, LM Studio and mlx, make one model of both first, and convert that.{after}"]
    yield _shell(
        f"llm-installer install {base}" + ("" if told.base else " --name base"),
        f"hf download {told.repo} --local-dir adapter",
        f"llm-installer merge {base if told.base else 'base'} --lora adapter --to ./merged",
        "llm-installer export ./merged --to gguf     # Ollama, llama.cpp, LM Studio",
        "mlx_lm.generate --model merged/model --prompt Hello",
    )


def _vllm(told: Told, base: str) -> Iterator[list[str]]:
    if stops := findings(VLLM, told.adapter):
        yield ["vLLM cannot take this adapter as it is, so merge it first:", "", *(f"- {each.said}" for each in stops)]
        return
    module = Module(served_name(told.repo.rpartition("/")[2]), told.repo, told.adapter.rank)
    yield ["With vLLM:"]
    yield _shell(" ".join(vllm_words(base, [module])))


def _merged_uses(repo: str) -> Iterator[list[str]]:
    yield ["With transformers:"]
    yield [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("{repo}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{repo}")',
        "```",
    ]
    yield ["With vLLM and mlx:"]
    yield _shell(f"vllm serve {repo}", f"mlx_lm.generate --model {repo} --prompt Hello")
    yield ["With Ollama, llama.cpp and LM Studio, as one file:"]
    yield _shell(f"llm-installer install {repo} --name merged", "llm-installer export merged --to gguf")


def _gguf_uses(told: Told) -> Iterator[list[str]]:
    file = next((name for name in told.files if name.endswith(".gguf")), "model.gguf")
    yield ["With Ollama, llama.cpp and LM Studio:"]
    yield _shell(f"ollama run hf.co/{told.repo}", f"llama-cli -hf {told.repo}", f"llama-cli -m {file}")


def _shell(*lines: str) -> list[str]:
    return ["```", *lines, "```"]
