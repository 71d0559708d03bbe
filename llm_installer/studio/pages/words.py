"""Sentences of the command line as a page says them: an option is a field of the page, and nobody is told to type."""

from __future__ import annotations

import re

LABELS = {
    "lora_r": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_dropout": "LoRA dropout",
    "max_seq_length": "sequence length",
    "effective_batch_size": "batch size",
    "batch_size": "micro-batch",
    "warmup_steps": "warm-up",
    "lr_scheduler": "LR schedule",
    "max_grad_norm": "gradient clipping",
    "dataset_format": "format",
    "validation_split": "share for validation",
    "data": "your file",
    "patience": "early stopping",
}
"""Options by what the plan calls them, where that is not their own name."""
KNOWN_AS = {"use_rslora": "rsLoRA"}
"""Options by the word that people look for, where the plan has another one."""
_OPTION = re.compile(r"(?<![\w-])(['\"]?)--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)\1(?:=(?=\S))?")
_COMMAND = r"(?:\b(?:train|start)\.sh|llm-installer|python[\w.]{0,8} -m llm_installer)\b|\bchmod "
_TYPED = re.compile(rf"(?:;|,? or|,| \(|(?<=\.) |^)(?:(?!\. )[^;,(])*(?:{_COMMAND})[^;\n]*")
"""A part of a sentence that ends in a command to type."""
_INSTALL = re.compile(r"install it with: \S+ -m pip install (.+)$")
_PLACE = r"[~/'][^;\n]*?(?=\.?$|;|\n)"
"""A path of this machine, to the end of its part of a sentence."""
_FIXED = (
    (
        re.compile(r"; with --method qlora it fits|; --method qlora would fit"),
        "; it fits with “method” qlora, which holds it in 4 bits",
    ),
    (re.compile(r"with --method qlora it fits"), "it fits with “method” qlora, which holds it in 4 bits"),
    (re.compile(r"; (?:correct it, or )?run without --strict(?: to skip it)?"), "; correct it"),
    (re.compile(r"; resume with(?: --resume)?.*$"), "; it goes on where it was with “Go on”"),
    (re.compile(r"(?<=interrupted) by SIG[A-Z]+"), ""),
    (
        re.compile(r"is served by [^;]*; end that first, with Ctrl-C where it was started"),
        "is loaded for a chat; press “Free its memory” on the page “Chat” first",
    ),
    (re.compile(r" with --stop-now\b"), ""),
    (re.compile(r", or set HF_HUB_OFFLINE=1 to use a cached copy"), ""),
    (re.compile(r"Use this adapter anyway with: .*$"), "“Use this one” uses it anyway."),
    (re.compile(r"; go back with: .*$"), "; “Use this one” on its page goes back to it."),
    (re.compile(r"(?:^| )Before, it was [~/][^\n]*\.$"), ""),
    (re.compile(rf"[;,] (?:this adapter(?:, from step [\d,]+,)?|the best adapter so far) is {_PLACE}"), ""),
    (re.compile(r"\./lora is now the adapter of this run"), "This run was put to use"),
    (
        re.compile(r"\./lora names this run, and holds its best adapter so far"),
        "This run is in use, at its best so far",
    ),
    (re.compile(r"\./lora is a folder of your own"), "What is in use is no run"),
    (re.compile(r"(^|\. )\./lora is as it was"), r"\1What is in use stays the same"),
    (re.compile(r"\./lora is as it was"), "what is in use stays the same"),
)


def label(option: str) -> str:
    """What the field of an option is called."""
    return LABELS.get(option, option.replace("_", " "))


def known_as(option: str) -> str:
    """The word for an option that people look for, after what the plan calls it."""
    return f" ({KNOWN_AS[option]})" if option in KNOWN_AS else ""


def for_page(sentence: str) -> str:
    """The same for someone who has a page and no terminal."""
    found = _INSTALL.sub(r"whoever looks after this machine can install it: pip install \1", sentence.strip())
    for pattern, words in _FIXED:
        found = pattern.sub(words, found)
    found = _TYPED.sub("", found)
    found = _OPTION.sub(lambda match: f"“{label(match[2].replace('-', '_'))}” ", found)
    return re.sub(r" +([,;:)]|\.(?=\s|$)|$)", r"\1", re.sub(r"  +", " ", found)).strip()
