"""Installing from a hub: the real client against a hub on the loopback."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_installer.install import download

Run = Callable[..., Any]


def installed(home: Path, dirname: str = "org_name") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "models" / dirname / "model_info.json").read_text())
    return found


def test_what_is_needed_is_downloaded_once_and_nothing_else(served: Any, home: Path, quick_install: Run) -> None:
    ended = quick_install("org/name")
    assert ended.code == 0, ended
    got = [s.path.rsplit("/", 1)[-1] for s in served.log if "/resolve/" in s.path]
    assert sorted(got) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert [s.path for s in served.log if "/resolve/" not in s.path] == ["/api/models/org/name"]
    assert sorted(os.listdir(home / "models")) == ["org_name"]
    assert sorted(os.listdir(home / "models" / "org_name" / "model")) == sorted(got)


def test_the_record_pins_the_commit_and_the_hashes(served: Any, home: Path, quick_install: Run) -> None:
    assert quick_install("org/name", revision="v1", name="pinned").code == 0
    record = installed(home, "pinned")
    weights = served.repos["org/name"].files["model.safetensors"]
    assert (record["id"], record["revision"], record["source"]) == ("org/name", "a" * 40, "hub")
    assert record["weights"]["model.safetensors"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert served.log[0].path == "/api/models/org/name/revision/v1"


def test_shards_of_the_index_are_taken(
    hub: Any, repo: Run, content: Callable[..., dict[str, bytes]], home: Path, quick_install: Run
) -> None:
    files = content()
    data = files.pop("model.safetensors")
    index = {"weight_map": {"w": "s1.safetensors", "model.norm.weight": "s2.safetensors"}}
    more = {"s1.safetensors": data, "s2.safetensors": data, "old.safetensors": data}
    hub.repos["gpt2"] = repo({**files, **more, "model.safetensors.index.json": json.dumps(index).encode()})
    assert quick_install("gpt2").code == 0
    assert sorted(installed(home, "gpt2")["weights"]) == ["s1.safetensors", "s2.safetensors"]
    assert not hub.got("old.safetensors")


@pytest.mark.slow
def test_the_settings_of_the_client_are_respected(served: Any, home: Path, run_install: Run) -> None:
    """In a process of its own, with HF_ENDPOINT and HF_HUB_OFFLINE as the user sets them; and no word but ours."""
    ended = run_install("org/name", served.url, env={"HF_HUB_OFFLINE": "1"})
    assert ended.code == 1 and "cannot be downloaded while HF_HUB_OFFLINE is set" in ended.error
    assert served.log == []
    ended = run_install("org/name", served.url)
    assert (ended.code, ended.stderr) == (0, "")
    assert installed(home)["id"] == "org/name"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_wrong_content_is_deleted_and_downloaded_again(name: str, served: Any, home: Path, quick_install: Run) -> None:
    """As many bytes as the hub lists, but not the bytes it lists: one file is in LFS, the other in git."""
    right = served.repos["org/name"].files[name]
    served.repos["org/name"].hurt = {name: right[:-1] + b"!"}
    ended = quick_install("org/name")
    assert ended.code == 1 and f"{name} of org/name arrived damaged" in ended.error
    assert not (home / "models" / "org_name").exists()
    served.repos["org/name"].hurt = {}
    assert quick_install("org/name").code == 0
    assert (home / "models" / "org_name" / "model" / name).read_bytes() == right


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_size_is_refused(change: int, served: Any, home: Path, quick_install: Run) -> None:
    data = served.repos["org/name"].files["model.safetensors"]
    served.repos["org/name"].hurt = {"model.safetensors": data[:-1] if change < 0 else data + b"!"}
    ended = quick_install("org/name")
    assert ended.code == 1 and "run the same command again" in ended.error
    served.repos["org/name"].hurt = {}
    assert quick_install("org/name").code == 0
    assert (home / "models" / "org_name" / "model" / "model.safetensors").read_bytes() == data


def test_a_long_download_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 102.0, 106.0, 106.5, 120.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    said: list[str] = []
    meter = download.Meter(said.append, total=10_000_000)
    meter.have(4_000_000)
    for _ in range(4):
        meter.downloaded(600_000)
    assert said == [
        "5 MiB of 10 MiB, 195 KiB/s, about 24 s left",
        "6 MiB of 10 MiB, 117 KiB/s, about 30 s left",
    ]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_token_goes_to_the_hub_and_never_to_its_storage(
    where: str, served: Any, quick_install: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    served.redirect = where == "elsewhere"
    assert quick_install("org/name").code == 0
    sent = {s.authorization for s in served.got("model.safetensors")}
    assert sent == ({""} if served.redirect else {"Bearer hf_secret"})
    assert served.log[0].authorization == "Bearer hf_secret"


def test_what_the_hub_client_has_cached_is_not_fetched_again(
    served: Any, home: Path, tmp_path: Path, quick_install: Run
) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--org--name" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(served.repos["org/name"].files["model.safetensors"])
    assert quick_install("org/name").code == 0
    assert not served.got("model.safetensors") and installed(home)["id"] == "org/name"


def test_a_damaged_cache_is_not_believed(served: Any, home: Path, tmp_path: Path, quick_install: Run) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--org--name" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"damaged")
    assert quick_install("org/name").code == 0
    assert served.got("model.safetensors") and installed(home)["id"] == "org/name"


def test_files_too_large_for_plain_http_go_through_the_client(
    served: Any, home: Path, quick_install: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TOO_LARGE_FOR_HTTP", 100)
    assert quick_install("org/name").code == 0
    assert [s.method for s in served.log if s.path.endswith("model.safetensors")] == ["HEAD", "GET"]
    assert sorted(os.listdir(home / "models" / "org_name")) == [
        "logs", "model", "model_info.json", "runs", "start.sh", "train.sh", "train_lora.py",
    ]  # fmt: skip


def test_folders_never_touch_the_network(make_model: Callable[..., Path], hub: Any, quick_install: Run) -> None:
    assert quick_install(str(make_model())).code == 0
    assert quick_install("tiny").code == 0
    assert hub.log == []
