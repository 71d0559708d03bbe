"""What a hub refuses, lacks or breaks is one sentence that says what to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_too_small_a_disk_is_told_before_the_first_weight(served: Any, home: Path, quick_install: Run) -> None:
    served.repos["org/name"].sizes = {"model.safetensors": 10**18}
    ended = quick_install("org/name")
    assert ended.code == 1 and ended.error.startswith("InstallerError The model needs 931322575 GiB")
    assert "set LLM_HOME" in ended.error
    assert not [s for s in served.log if s.path.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("config", "files", "says"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, {}, "is a BertForMaskedLM"),
        (None, {"model.safetensors": None, "model.q4.gguf": b"g"}, "holds only GGUF files"),
        (None, {"model.safetensors": None, "adapter_config.json": b"{}"}, "is an adapter, not a model"),
    ],
)
def test_unsuitable_models_are_refused_before_the_first_weight(
    config: dict[str, Any] | None,
    files: dict[str, bytes | None],
    says: str,
    hub: Any,
    repo: Run,
    content: Callable[..., dict[str, bytes]],
    quick_install: Run,
) -> None:
    all_files = {**content(config=config), **files}
    hub.repos["org/name"] = repo({k: v for k, v in all_files.items() if v is not None})
    ended = quick_install("org/name")
    assert ended.code == 1 and ended.error.startswith("ModelError org/name ") and says in ended.error
    assert not hub.got("model.safetensors") and not hub.got("model.q4.gguf")


@pytest.mark.parametrize(
    ("listing", "files", "says"),
    [
        (None, (401, "GatedRepo"), "org/name is gated: accept its licence on {hub}/org/name"),
        (None, (403, "GatedRepo"), "org/name is gated: accept its licence on {hub}/org/name"),
        ((403, "GatedRepo", ""), None, "`llm-installer config set hub-token` or in HF_TOKEN"),
        ((403, "", "Forbidden"), None, "`llm-installer config set hub-token` or in HF_TOKEN"),
        ((401, "", "Invalid credentials in Authorization header"), None, "{hub} refused your token"),
        ((403, "", "Access to this resource is disabled."), None, "has been disabled"),
        ((500, "", ""), None, "{hub} answered 500 for org/name"),
        (None, (404, "EntryNotFound"), "lacks a file"),
    ],
)
def test_refusals_say_what_to_do(
    listing: tuple[int, str, str] | None, files: tuple[int, str] | None, says: str, served: Any, quick_install: Run
) -> None:
    served.refuse, served.repos["org/name"].refuse = listing, files
    ended = quick_install("org/name")
    assert ended.code == 1 and ended.error.startswith("HubError ")
    assert says.format(hub=served.url) in ended.error and "\n" not in ended.error


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("org/nmae", {}, "{hub} has no model org/nmae, or it is private; check the spelling"),
        ("org/name", {"revision": "v9"}, "org/name has no revision v9"),
    ],
)
def test_mistakes_say_what_to_do(
    model: str, options: dict[str, Any], says: str, served: Any, home: Path, quick_install: Run
) -> None:
    ended = quick_install(model, **options)
    assert ended.code == 1 and ended.error.startswith("HubError ")
    assert says.format(hub=served.url) in ended.error
    assert os.listdir(home / "models") == []


def test_no_network_is_one_sentence(run_install: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        hub = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ended = run_install("org/name", hub)
    assert ended.code == 1 and f"HubError {hub} cannot be reached" in ended.error


def test_what_is_not_a_hub_is_one_sentence(hub: Any, quick_install: Run) -> None:
    hub.refuse = (200, "", "")
    ended = quick_install("org/name")
    assert ended.code == 1 and ended.error.startswith("HubError ") and "HF_ENDPOINT" in ended.error
