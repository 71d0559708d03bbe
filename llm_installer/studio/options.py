"""What a job may say about its training: the options of `train` that decide what is learned.

None of them reads or writes other files, pushes, or resumes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from llm_installer.studio.plain import Json
from llm_installer.studio.store.refusals import Refused

_NAMES = """
allow_cut_answers alpha_pattern answers_as batch_size chunk_words circular circular_batch_multiplier
columns dataset_format effective_batch_size epochs fast force_epochs gradient_accumulation_steps
gradient_checkpointing init_lora_weights learning_rate lora_alpha lora_dropout lora_r loraplus_ratio
lr_scheduler max_circular_epochs max_examples max_grad_norm max_seq_length method min_evaluations
mode neftune_noise_alpha optimizer order overfitting_threshold packing patience precision
rank_pattern seed skip_test strict target_modules task_prefix test_prompt text_rows train_on_prompt
use_4bit use_8bit use_dora use_rslora validation_split warmup_steps weight_decay
"""
ALLOWED = frozenset(_NAMES.split())
VALIDATION = "validation_data"
"""The id of a file, in a job's options; the worker puts its path in the place."""
LONGEST = 2000
"""Characters of a value."""
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


class BadOption(Refused):
    """An option, or a model name, that a job may not have."""

    status = 400
    code = "invalid_option"


def checked(options: Mapping[str, object]) -> Json:
    """The options with the names that `train` knows, dashes or not. Raises BadOption."""
    found: Json = {}
    for given, value in options.items():
        name = given.replace("-", "_").lstrip("_")
        if name not in ALLOWED:
            raise BadOption(f"A job may not say {given!r}; see what it may with: llm-installer train --help")
        if value is None or value is False:
            continue
        if not isinstance(value, (str, int, float)) or len(str(value)) > LONGEST:
            raise BadOption(f"{given} must be a number, a text or true")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadOption(f"{given} must be a number")
        if isinstance(value, str) and not value.isprintable():
            raise BadOption(f"{given} must be text on one line")
        found[name] = value
    return found


def words(options: Mapping[str, object]) -> list[str]:
    """The options as a command line has them; nothing can be taken for another option."""
    found = []
    for name, value in sorted(options.items()):
        flag = f"--{name.replace('_', '-')}"
        found.append(flag if value is True else f"{flag}={value}")
    return found


def checked_model(name: str) -> str:
    """The name of a model: an installed one or a hub id, and neither a path nor an address. Raises BadOption."""
    plain = name.strip()
    if not _MODEL.fullmatch(plain) or ".." in plain or len(plain) > 200:
        raise BadOption(f"{name[:80]!r} is neither the name of an installed model nor a hub id such as Qwen/Qwen3-0.6B")
    return plain
