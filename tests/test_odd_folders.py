"""Model folders of many families, damaged at random: each is used, or refused in one sentence of ours, soon.

FUZZ_SECONDS=600 pytest -m slow tests/test_odd_folders.py goes on for ten minutes; LLM_SEED=N draws the same again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.handlers import test_families
from tests.models import test_targets
from tests.models.test_targets import plan_of
from tests.test_model_files import VALUES, answer_something, changed, places, tried

pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = 2048
"""Tokens of the vocabulary, which is that of the tokenizer."""
CONFIGS = {
    **{name: each for name, each in test_families.CONFIGS.items() if "vision_config" not in each},
    **test_targets.CONFIGS,
}


@pytest.fixture(scope="module")
def folders(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model of each family, with a tokenizer and a template."""
    found = {}
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    for name, config in CONFIGS.items():
        folder = found[name] = tmp_path_factory.mktemp("odd")
        kind = AutoConfig.for_model(name.partition("/")[0], **{**config, "vocab_size": SIZE})
        AutoModelForCausalLM.from_config(kind).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return found


def used(folder: Path) -> None:
    """All that is done with a model before the first step."""
    plan_of(folder)
    answer_something(folder)


def a_wrong_field(file: Path, other: Path, dice: random.Random) -> None:
    content = json.loads(file.read_text("utf-8"))
    if not (every := list(places(content, 3))):
        return
    place = dice.choice(every)
    inner = content
    for key in place:
        inner = inner[key]
    near = (
        [inner * 2, inner + 1, inner - 1, -inner, str(inner)] if isinstance(inner, (int, float)) else [[inner], "none"]
    )
    file.write_text(json.dumps(changed(content, place, dice.choice([*VALUES, *near, *near]))), "utf-8")


def a_field_less(file: Path, other: Path, dice: random.Random) -> None:
    content = json.loads(file.read_text("utf-8"))
    if isinstance(content, dict) and content:
        del content[dice.choice(list(content))]
        file.write_text(json.dumps(content), "utf-8")


def fields_of_another(file: Path, other: Path, dice: random.Random) -> None:
    content, more = json.loads(file.read_text("utf-8")), json.loads((other / file.name).read_text("utf-8"))
    if isinstance(content, dict) and isinstance(more, dict) and more:
        names = dice.sample(list(more), min(len(more), dice.randint(1, 5)))
        file.write_text(json.dumps({**content, **{name: more[name] for name in names}}), "utf-8")


def cut(file: Path, other: Path, dice: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: dice.randrange(len(content) or 1)])


def flipped(file: Path, other: Path, dice: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(dice.randint(1, 8) if content else 0):
        content[dice.randrange(min(len(content), dice.choice((64, 4096, 1 << 30))))] ^= 1 << dice.randrange(8)
    file.write_bytes(content)


def gone(file: Path, other: Path, dice: random.Random) -> None:
    file.unlink()


def a_folder(file: Path, other: Path, dice: random.Random) -> None:
    file.unlink()
    file.mkdir()


def a_file_of_another(file: Path, other: Path, dice: random.Random) -> None:
    if (other / file.name).is_file():
        shutil.copy(other / file.name, file)


OF_JSON = (a_wrong_field, a_wrong_field, a_wrong_field, a_field_less, fields_of_another)
OF_ANY = (cut, flipped, gone, a_folder, a_file_of_another)


def damage(folder: Path, other: Path, dice: random.Random) -> str:
    """One to three kinds of damage; their names."""
    said = []
    for _ in range(dice.choice((1, 1, 2, 3))):
        files = [file for file in sorted(folder.iterdir()) if file.is_file()]
        file = dice.choice([*files, *(file for file in files if file.suffix == ".json")])
        hurt: Callable[[Path, Path, random.Random], None] = dice.choice(
            OF_JSON if file.suffix == ".json" and dice.random() < 0.7 else OF_ANY
        )
        try:
            hurt(file, other, dice)
        except (ValueError, FileNotFoundError, IsADirectoryError):  # it is no JSON any more, or the other has none
            continue
        said.append(f"{hurt.__name__} in {file.name}")
    return ", ".join(said)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_odd_folders_are_used_or_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    seed = int(os.environ.get("LLM_SEED", "0")) or time.time_ns() % 1_000_000
    end, count, well = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "10")), 0, 0
    wrong: list[str] = []
    while time.monotonic() < end:
        dice = random.Random(seed + count)
        name, other = dice.choice(list(folders)), dice.choice(list(folders.values()))
        folder = Path(shutil.copytree(folders[name], tmp_path / str(count)))
        about = f"LLM_SEED={seed + count}: {name}, {damage(folder, other, dice)}"
        torch.manual_seed(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                well += tried(lambda folder=folder: used(folder), about)
        except Exception as error:  # of any kind: it is counted, and told at the end
            wrong.append(f"{about}: {type(error).__name__}: {str(error)[:200]}")
        shutil.rmtree(folder)
        count += 1
    print(f"{count:,} folders, {well:,} used")
    assert not wrong, "\n".join(wrong)
    assert 0 < well < count
