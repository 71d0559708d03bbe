"""`llm-installer push` to a hub on the loopback by the real client: what arrives is complete, proven and clean."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_installer import api
from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.home import cache_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.export import measure
from llm_installer.export.push.request import Preview, Pushed, PushRequest
from llm_installer.export.push.story import push
from llm_installer.ui.console import Console, Terminal
from tests.export.push.made import ID, ROWS
from tests.loopback_hub import Hub, Repo

pytestmark = pytest.mark.filterwarnings("ignore")
SENT = {
    "README.md", "adapter_config.json", "adapter_info.json", "adapter_model.safetensors", "tokenizer.json",
    "chat_template.jinja", "tokenizer_config.json", "training_history.png",
}  # fmt: skip
ASKED = PushRequest(run="last", repo="anna/lamps")


def pushed(folder: ModelDir, request: PushRequest = ASKED) -> Pushed:
    found = push(folder, request, Silence())
    assert isinstance(found, Pushed)
    return found


def refused(folder: ModelDir, request: PushRequest = ASKED) -> str:
    with pytest.raises(InstallerError) as error:
        push(folder, request, Silence())
    assert "\n" not in str(error.value)
    assert not list(cache_dir().glob("push/*")), "nothing is left of it"
    return str(error.value)


def test_an_adapter_arrives_in_one_commit_and_works(hub: Hub, folder: ModelDir) -> None:
    found = pushed(folder, replace(ASKED, private=True))
    repo = hub.repos["anna/lamps"]
    assert {file.name for file in found.files} == SENT <= set(repo.files) and repo.private
    assert hub.uploads.commits == 1 and repo.commit == found.commit
    assert found.proof.startswith("Every file was fetched back, and the adapter loaded")
    config = json.loads(repo.files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "org/base" and config["revision"] == "c" * 40
    assert config["lora_alpha"] == 8 and isinstance(config["lora_alpha"], int)
    info = json.loads(repo.files["adapter_info.json"])
    assert info["data"] == "lamps.jsonl" and "memory" not in info
    assert b"secret/place" not in b"".join(repo.files.values())
    assert (
        repo.files["adapter_model.safetensors"] == (folder.runs / ID / "adapter/adapter_model.safetensors").read_bytes()
    )
    assert not list(cache_dir().glob("push/*"))
    again = pushed(folder)
    assert again.commit == found.commit and hub.uploads.commits == 1, "what is there already is no commit"


def test_a_dry_run_asks_nobody_and_shows_everything(hub: Hub, folder: ModelDir) -> None:
    found = push(folder, PushRequest(run="last", dry_run=True, private=True), Silence())
    assert isinstance(found, Preview) and hub.log == []
    assert found.repo == f"YOUR-NAME/lamp-model-{ID}" and {file.name for file in found.files} == SENT
    assert 'base_model: "org/base"' in found.card and "lamps.jsonl (10 training rows)" in found.card
    assert sum(file.bytes for file in found.files) > 10_000
    out = io.StringIO()
    Console(rich=Terminal(file=out, width=200)).show(found)
    assert "Searched for local paths, user names, keys and rows of your data: nothing was found." in out.getvalue()


def test_without_a_name_it_is_ones_own(hub: Hub, folder: ModelDir) -> None:
    assert pushed(folder, PushRequest(run="last")).repo == f"anna/lamp-model-{ID}"


def test_python_pushes_the_same(hub: Hub, folder: ModelDir) -> None:
    found = api.push(folder.root, "anna/lamps", run="last", dry_run=True)
    assert isinstance(found, Preview)
    with pytest.raises(UsageError, match="is no name of a repository"):
        api.push(folder.root, "lamps", run="last")
    with pytest.raises(UsageError, match="There is no option 'privat'; did you mean 'private'"):
        api.push(folder.root, "anna/lamps", privat=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (replace(ASKED, lora="x"), "--run and --lora contradict each other"),
        (replace(ASKED, merged=True, gguf=True), "--merged and --gguf contradict each other"),
        (replace(ASKED, repo="lamps"), "is no name of a repository; give OWNER/NAME"),
        (replace(ASKED, repo="a/../b"), "is no name of a repository"),
        (PushRequest(repo="anna/lamps"), "has no adapter to push; train one with"),
        (
            PushRequest(lora="nowhere", repo="anna/lamps"),
            "or name another one with --run or --lora",
        ),
        (replace(ASKED, run="nothing"), "No run of lamp-model is called 'nothing'"),
    ],
)
def test_words_that_mean_nothing_are_refused(request_: PushRequest, said: str, hub: Hub, folder: ModelDir) -> None:
    assert said in refused(folder, request_) and hub.log == []


def test_a_token_is_asked_for_before_anything_is_done(
    hub: Hub, folder: ModelDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    said = refused(folder)
    assert said.startswith("A push to anna/lamps needs a token;") and "`hf auth login`, or set HF_TOKEN" in said
    assert hub.log == []


@pytest.mark.parametrize(
    ("step", "answer", "said"),
    [
        ("create", (401, "", "Invalid credentials in Authorization header"), "refused your token"),
        (
            "create",
            (403, "", "You don't have the rights to create a model under anna"),
            "does not let your token write",
        ),
        ("preupload", (403, "GatedRepo", "Access to model anna/lamps is restricted"), "is gated, and your token"),
        ("batch", (403, "", "Private repository storage limit reached, please upgrade"), "no more room for anna/lamps"),
        ("put", (413, "", "Payload too large"), "no more room"),
        ("commit", (412, "", "A commit has happened since."), "was changed by somebody else meanwhile"),
        ("commit", (500, "", ""), "answered 500 for anna/lamps; run the same command again"),
    ],
)
def test_what_a_hub_refuses_is_one_sentence_and_commits_nothing(
    step: str, answer: tuple[int, str, str], said: str, hub: Hub, folder: ModelDir
) -> None:
    hub.uploads.refuse[step] = answer
    assert said in refused(folder)
    assert hub.uploads.commits == 0
    assert set(hub.repos["anna/lamps"].files if "anna/lamps" in hub.repos else ()) <= {".gitattributes"}


def test_a_connection_that_breaks_leaves_nothing_and_is_tried_again(hub: Hub, folder: ModelDir) -> None:
    hub.uploads.cut = {"commit": 1}
    assert "cannot be reached" in refused(folder) and hub.uploads.commits == 0
    hub.uploads.cut, hub.uploads.chunk = {"put": 1}, 20_000  # the client tries a large file again, here in parts
    assert pushed(folder).commit == hub.repos["anna/lamps"].commit


def test_what_arrives_as_something_else_is_found(hub: Hub, folder: ModelDir) -> None:
    hub.uploads.lose = ("adapter_model.safetensors",)
    assert "adapter_model.safetensors is not in anna/lamps as it was sent" in refused(folder)


def test_a_repository_of_another_kind_is_left_alone(hub: Hub, folder: ModelDir) -> None:
    hub.repos["anna/lamps"] = Repo({"config.json": b"{}", "model.safetensors": b"w"})
    assert "holds a merged model already" in refused(folder)
    hub.repos["anna/lamps"] = Repo({"adapter_config.json": b"{}", "README.md": b"mine"})
    assert "is there already, and public" in refused(folder, replace(ASKED, private=True))
    assert hub.uploads.commits == 0


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json", "weights", "picture", "row"])
def test_what_must_not_leave_stops_everything(place: str, hub: Hub, folder: ModelDir) -> None:
    lora = folder.runs / ID / "adapter"
    if place == "weights":
        from safetensors import safe_open
        from safetensors.torch import save_file

        file = lora / "adapter_model.safetensors"
        with safe_open(file, "pt") as tensors:
            save_file({n: tensors.get_tensor(n) for n in tensors.keys()}, file, {"from": str(folder.root)})  # noqa: SIM118
    elif place == "picture":
        from PIL import Image, PngImagePlugin

        about = PngImagePlugin.PngInfo()
        about.add_itxt("Comment", "sk-" + "a1" * 12, zip=True)
        Image.new("L", (2, 2)).save(folder.runs / ID / "training_history.png", pnginfo=about)
    else:
        texts = {"row": ROWS[3]["instruction"], "chat_template.jinja": "{# see /home/somebody/notes #}"}
        name = "chat_template.jinja" if place == "row" else place
        old = (lora / name).read_text("utf-8") if (lora / name).is_file() else ""
        secret = '{"auth": "hf_' + "x9" * 20 + '"}'
        (lora / name).write_text(secret if place == "tokenizer_config.json" else old + texts[place], "utf-8")
    said = refused(folder)
    kinds = {
        "weights": "adapter_model.safetensors holds a local path (its metadata)",
        "picture": "training_history.png holds a key or token (text in the picture)",
        "row": "chat_template.jinja holds a row (from lamps.jsonl:4)",
        "chat_template.jinja": "chat_template.jinja holds a local path (line ",
        "tokenizer_config.json": "tokenizer_config.json holds a key or token",
    }
    assert said.startswith("Nothing was sent: ") and kinds[place] in said and "x9x9" not in said
    assert hub.repos == {} and not [seen for seen in hub.log if seen.method != "GET"]


def test_where_the_data_are_gone_it_is_said(hub: Hub, folder: ModelDir) -> None:
    record = json.loads((folder.runs / ID / "run.json").read_text("utf-8"))
    (folder.runs / ID / "run.json").write_text(json.dumps(record | {"options": {"data": "gone.jsonl"}}), "utf-8")
    assert "cannot be read any more" in pushed(folder).notes[0]


def test_an_adapter_of_elsewhere_is_pushed_too(hub: Hub, folder: ModelDir, tmp_path: Path) -> None:
    lora = shutil.copytree(folder.runs / ID / "adapter", tmp_path / "elsewhere")
    (lora / "adapter_info.json").unlink()
    found = pushed(folder, PushRequest(lora=str(lora), repo="anna/lamps"))
    assert "not known here" in found.notes[0]
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    assert "save it as safetensors" in refused(folder, PushRequest(lora=str(lora), repo="anna/lamps"))


@pytest.mark.parametrize("request_", [ASKED, replace(ASKED, merged=True), replace(ASKED, dry_run=True)])
def test_an_adapter_that_nobody_could_use_is_not_sent(request_: PushRequest, hub: Hub, folder: ModelDir) -> None:
    file = folder.runs / ID / "adapter" / "adapter_model.safetensors"
    held = load_file(file)
    next(iter(held.values())).view(-1)[0] = float("nan")
    save_file(held, file, metadata={"format": "pt"})
    assert "is damaged: " in (said := refused(folder, request_)) and "not numbers" in said
    assert not hub.repos


def test_a_merged_model_arrives_and_answers_without_an_adapter(
    hub: Hub, folder: ModelDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "LENGTH", 4)
    hub.repos["anna/lamps"] = Repo({"config.json": b"{}", "model-00001-of-00002.safetensors": b"old", "notes.md": b"n"})
    found = pushed(folder, replace(ASKED, merged=True))
    files = hub.repos["anna/lamps"].files
    assert "model-00001-of-00002.safetensors" not in files and files["notes.md"] == b"n"
    assert "1 older file with weights is deleted" in found.notes[-1]
    assert "receipt.json" not in files and "adapter_config.json" not in files
    for name, data in files.items():
        (tmp_path / "arrived" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "arrived" / name).write_bytes(data)
    ids = AutoTokenizer.from_pretrained(tmp_path / "arrived")("Which lamp?", return_tensors="pt").input_ids
    base = AutoModelForCausalLM.from_pretrained(folder.weights)
    tuned = PeftModel.from_pretrained(base, str(folder.runs / ID / "adapter")).eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "arrived").eval()
    with torch.no_grad():
        assert torch.allclose(tuned(input_ids=ids).logits, merged(input_ids=ids).logits, atol=1e-4)


@pytest.mark.slow
def test_a_gguf_file_arrives(hub: Hub, folder: ModelDir, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setattr(measure, "LENGTH", 4)
    found = pushed(folder, PushRequest(run="last", gguf=True))
    files = hub.repos[f"anna/lamp-model-{ID}-gguf"].files
    (name,) = (file.name for file in found.files if file.name != "README.md")
    assert name == f"lamp-model-{ID}-f16.gguf" and files[name].startswith(b"GGUF")
    assert f"llama-cli -m {name}" in files["README.md"].decode()


def _kill(folder: ModelDir, hub: Hub, seconds: float) -> None:
    """Kill a push some time after its first request, or let it end before."""
    before = len(hub.log)
    # A fork has all libraries at once, which a new program would spend its time on.
    process = get_context("fork").Process(target=_push_quietly, args=(folder,))
    process.start()
    deadline = time.monotonic() + 120
    while process.is_alive() and len(hub.log) == before:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(seconds)
    process.kill()
    process.join(60)


def _push_quietly(folder: ModelDir) -> None:
    push(folder, ASKED, Silence())
    os._exit(0)


@pytest.mark.parametrize("times", [pytest.param(2, id="2"), pytest.param(20, id="20", marks=pytest.mark.slow)])
def test_after_a_kill_the_repository_is_empty_or_complete(times: int, hub: Hub, folder: ModelDir) -> None:
    hub.uploads.slow = 0.02
    moments = random.Random(0)
    seen = set[bool]()
    for _ in range(times):
        hub.repos.clear()
        hub.uploads.blobs.clear()
        _kill(folder, hub, moments.uniform(0, 0.6))
        there = set(hub.repos["anna/lamps"].files) if "anna/lamps" in hub.repos else set[str]()
        assert there <= {".gitattributes"} or there >= SENT
        seen.add(there >= SENT)
    assert times < 20 or seen == {True, False}, "the moments are not spread over the push"
    hub.uploads.slow = 0.0
    assert pushed(folder).commit == hub.repos["anna/lamps"].commit
    assert not list(cache_dir().glob("push/*")), "what killed ones have left is swept"
