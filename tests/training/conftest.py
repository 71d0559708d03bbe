"""A plan and encoded rows for the tiny random model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_many import encode_all
from llm_installer.data.encoding.row import Row
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.course import Course
from llm_installer.planning.decide import make_plan
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.registry import find_handler

CPU = Hardware("cpu", "CPU", 1, 8 * GIB, 8 * GIB, False, 2)


@pytest.fixture(scope="session")
def encoder(tiny_llama: Path) -> Encoder:
    return Encoder(load_tokenizer(tiny_llama))


@pytest.fixture(scope="session")
def make_rows(encoder: Encoder) -> Callable[[int], list[Row]]:
    """Rows of very different lengths."""

    def make(count: int) -> list[Row]:
        examples = [
            Example(
                (
                    Message("user", f"Say {i} " + "many words " * (i % 7)),
                    Message("assistant", f"Word {i}. " * (1 + i % 5)),
                ),
                Origin("test", i + 1),
            )
            for i in range(count)
        ]
        return list(encode_all(examples, encoder)[0])

    return make


@pytest.fixture(scope="session")
def plan_for(tiny_llama: Path) -> Callable[..., Plan]:
    """A plan for `rows` rows; keywords replace fields of it and of its course."""
    info = read_model_info(tiny_llama)

    def make(rows: int, epochs: float = 1.0, batch: int = 8, **changed: Any) -> Plan:
        options = Options(data="x", epochs=epochs, effective_batch_size=batch, learning_rate=1e-3)
        facts = DataFacts(rows, 0, "instruct", 50, 100)
        plan = make_plan(options, info, find_handler(info), CPU, facts, (256, "test"))
        timing = {f.name: changed.pop(f.name) for f in dataclasses.fields(Course) if f.name in changed}
        return dataclasses.replace(plan, course=dataclasses.replace(plan.course, **timing), **changed)

    return make
