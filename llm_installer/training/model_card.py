"""The README.md of an adapter: what it is, what it was made of, and how it is loaded, for whoever finds the folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from llm_installer.core.hub_base import HubBase
from llm_installer.core.markdown import document, plain, table
from llm_installer.core.text import loss_text

_USE = """\
```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("ADAPTER")  # this folder
tokenizer = AutoTokenizer.from_pretrained("ADAPTER")
```"""


def model_card(info: Mapping[str, object], base: HubBase | None, model: str) -> str:
    """A model card in Markdown from the content of adapter_info.json; `model` names the base where no hub does."""
    return document([list(_header(base)), [f"# A LoRA adapter for {plain(base.id if base else model)}"], *_parts(info)])


def _header(base: HubBase | None) -> Iterator[str]:
    """What hubs read."""
    yield from ("---", "library_name: peft", "pipeline_tag: text-generation", "tags:", "- lora", "- llm-installer")
    if base:
        yield f"base_model: {json.dumps(base.id)}"
    yield "---"


def _parts(info: Mapping[str, object]) -> Iterator[list[str]]:
    data = ", ".join(Path(part.strip()).name for part in str(info.get("data") or "").split(","))
    losses = loss_text(_number(info, "base_loss")), loss_text(_number(info, "best_loss"))
    rows = [
        ("trained on", data or "-"),
        ("as", "conversations" if info.get("style") == "chat" else "plain text"),
        ("method", str(info.get("method") or "-")),
        ("loss of the base", losses[0]),
        ("loss with the adapter", losses[1]),
        ("step", f"{info.get('best_step')} of {info.get('steps')}"),
        ("made", str(info.get("created_at") or "-")),
    ]
    yield table(("", ""), rows)
    yield ["Losses are per token, on rows that were not trained on where there were any."]
    yield ["## Use it", "", *_USE.splitlines()]
    yield ["`adapter_info.json` has every setting that was chosen, and its reason."]


def _number(info: Mapping[str, object], name: str) -> float | None:
    value = info.get(name)
    return float(value) if isinstance(value, int | float) else None
