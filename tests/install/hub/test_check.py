"""Whether a model runs and trains here is said before any of its weights is fetched."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llm_installer.cli.main import cli
from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.hardware import GIB, Hardware, probe_hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.install import check as module
from llm_installer.install import install
from llm_installer.install.check import check_model
from llm_installer.install.hub_preview import preview
from llm_installer.install.resolve import resolve
from tests.install.conftest import llama_tensors, safetensors

WIDTH, LAYERS = 512, 4
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH, "intermediate_size": WIDTH,
    "num_hidden_layers": LAYERS, "num_attention_heads": 8, "vocab_size": 24, "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}  # fmt: skip


def weights() -> bytes:
    """A few megabytes of bfloat16 matrices with the names of a Llama."""
    return safetensors(llama_tensors(WIDTH, LAYERS, 24), dtype="BF16")


@pytest.fixture
def served(asking_hub: Any, repo: Callable[..., Any], content: Callable[..., dict[str, bytes]]) -> Any:
    asking_hub.repos["org/name"] = repo({**content(config=CONFIG), "model.safetensors": weights()})
    return asking_hub


def verdicts(checks: list[module.Check]) -> dict[str, bool | None]:
    return {check.name: check.ok for check in checks}


def test_a_hub_model_is_known_from_its_header(served: Any, tmp_path: Path) -> None:
    found = check_model("org/name")
    assert verdicts(found.checks) == {
        "model": True,
        "adapted": True,
        "machine": True,
        "disk": True,
        "training": True,
        "time": True,
        "chat": None,
    }
    time = next(check.detail for check in found.checks if check.name == "time")
    assert re.fullmatch(r"about [\d.]+ (to [\d.]+ )?\w+ for 1,000 examples of 300 tokens in mode medium", time)
    assert sum(seen.sent for seen in served.got("model.safetensors")) <= 100_001 < len(weights())
    (tmp_path / "preview").mkdir()
    preview(resolve("org/name"), tmp_path / "preview")
    one, other = read_model_info(tmp_path / "preview"), read_model_info(install("org/name", say=lambda _: None).weights)
    same = {"path": other.path, "name": other.name, "weight_bytes": other.weight_bytes}
    assert dataclasses.replace(one, **same) == other
    assert abs(one.weight_bytes - other.weight_bytes) < 4096
    assert verdicts(check_model("org_name").checks)["training"]


@pytest.mark.parametrize(
    ("gigabytes", "expected", "says"),
    [(400, True, "rank 8"), (0.42, None, "--method qlora"), (0.01, False, "smaller model")],
)
def test_memory_decides(
    gigabytes: float, expected: bool | None, says: str, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def machine() -> Hardware:
        return dataclasses.replace(probe_hardware(), free_bytes=int(gigabytes * GIB))

    monkeypatch.setattr(module, "probe_hardware", machine)
    found = check_model("org/name")
    check = next(c for c in found.checks if c.name == "training")
    assert check.ok is expected, (check, found.memory)
    assert says in check.detail + check.fix


def test_what_cannot_be_trained_is_refused(served: Any) -> None:
    config = {**CONFIG, "model_type": "bert", "architectures": ["BertForMaskedLM"]}
    served.repos["org/name"].files["config.json"] = json.dumps(config).encode()
    with pytest.raises(ModelError, match="BertForMaskedLM"):
        check_model("org/name")
    assert not served.got("model.safetensors")


def test_a_folder_without_a_model_and_a_damaged_header_are_one_sentence(served: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        check_model(str(tmp_path))
    served.repos["org/name"].files["model.safetensors"] = b"no header at all" * 9
    with pytest.raises(InstallerError, match="org/name"):
        check_model("org/name")


def test_the_command_says_so_and_exits_by_it(served: Any, make_model: Callable[..., Path]) -> None:
    served.repos["org/name"].sizes = {"model.safetensors": 4 * 10**12}
    ended = CliRunner().invoke(cli, ["check", "org/name"])
    assert ended.exit_code == 1 and "to install" in ended.output and "larger disk" in ended.output
    ended = CliRunner().invoke(cli, ["check", str(make_model())])
    assert ended.exit_code == 0 and "4-bit" in ended.output
