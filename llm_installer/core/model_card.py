"""The README.md of an adapter: what it is, what it was made of, and how it is loaded, for whoever finds the folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath, PureWindowsPath

from llm_installer.core.hub_base import HubBase
from llm_installer.core.markdown import document, plain, table
from llm_installer.core.text import loss_text

ADAPTER = "ADAPTER"
"""What stands for the adapter in the code of a card."""
NOTE = "Losses are per token, on rows that were not trained on where there were any."
_FOLDER = re.compile(r"^([/\\.~]|[A-Za-z]:)|[/\\]$|\.\w{1,8}$")
"""What is a path, or a file with its ending, and not a name on a hub."""


def peft_code(adapter: str = ADAPTER, note: str = "", base: str = "") -> list[str]:
    """The lines that load an adapter with PEFT; `base` names what it does not name itself."""
    note = f"  # {note}" if note else ""
    if not base:
        return [
            "```python",
            "from peft import AutoPeftModelForCausalLM",
            "from transformers import AutoTokenizer",
            "",
            f'model = AutoPeftModelForCausalLM.from_pretrained("{adapter}"){note}',
            f'tokenizer = AutoTokenizer.from_pretrained("{adapter}")',
            "```",
        ]
    return [
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'base = AutoModelForCausalLM.from_pretrained("{base}"){note}',
        f'model = PeftModel.from_pretrained(base, "{adapter}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{adapter}")',
        "```",
    ]


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
    yield table(("", ""), facts(info))
    yield [NOTE]
    yield ["## Use it", "", *peft_code(note="this folder")]
    yield ["`adapter_info.json` has every setting that was chosen, and its reason."]


def facts(info: Mapping[str, object]) -> list[tuple[str, str]]:
    """What is said of every adapter, from the content of adapter_info.json."""
    return [
        ("trained on", data_names(str(info.get("data") or "")) or "-"),
        ("as", "conversations" if info.get("style") == "chat" else "plain text"),
        ("method", str(info.get("method") or "-")),
        ("loss of the base", loss_text(_number(info, "base_loss"))),
        ("loss with the adapter", loss_text(_number(info, "best_loss"))),
        ("step", f"{info.get('best_step')} of {info.get('steps')}"),
        ("made", str(info.get("created_at") or "-")),
    ]


def data_names(data: str) -> str:
    """The names of data in the user's words, without the folders that files were in; those of hubs stay."""
    return ", ".join(filter(None, (_name(part.strip()) for part in data.split(","))))


def _name(part: str) -> str:
    if not _FOLDER.search(part) and part.count("/") == 1:
        return part
    return PureWindowsPath(PurePath(part).name).name


def _number(info: Mapping[str, object], name: str) -> float | None:
    value = info.get(name)
    return float(value) if isinstance(value, int | float) else None
