"""A real server on loopback: the built-in model with three runs made by hand, one of which can call tools."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_installer.core.paths import ModelDir
from llm_installer.install.installer import install
from llm_installer.server.catalogue import Catalogue
from llm_installer.server.hosts import EngineOfServer
from llm_installer.server.request import ServeRequest
from llm_installer.server.story import Server, opened
from tests.made_runs import make_run

RUNS = ("20260101-100000-full", "20260102-100000-full", "20260103-100000-tools")
TOOLS_TEMPLATE = (
    "{%- if tools %}{{ '<|im_start|>system\n<tools>' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    "{{ '</tools><|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}"
    "{% for call in m.tool_calls or [] %}"
    "{{ '<tool_call>\n' + ({'name': call.function.name, 'arguments': call.function.arguments} | tojson) "
    "+ '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Quiet:
    """A voice that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str = "") -> None:
        self.lines.append(text)

    def heading(self, text: str) -> None:
        self.lines.append(text)

    def command(self, words: object) -> None: ...
    def show(self, found: object) -> None: ...

    def waiting(self, what: str) -> object:
        from contextlib import nullcontext

        return nullcontext()


def add_adapter(folder: ModelDir, run: str, seed: int, template: str = "", rank: int = 4) -> Path:
    """A run with an adapter that changes what the model says, without a training."""
    made = make_run(folder, run, 1e-3)
    for file in made.adapter.iterdir():
        if file.name != "adapter_info.json":
            file.unlink()
    model = AutoModelForCausalLM.from_pretrained(folder.weights)
    torch.manual_seed(seed)
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=16, target_modules=["q_proj", "v_proj"])
    )
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if ".lora_B." in name:
                value.normal_(std=0.2)
    adapted.save_pretrained(made.adapter)
    if template:
        tokenizer = AutoTokenizer.from_pretrained(folder.weights)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(made.adapter)
    return made.adapter


@dataclass
class Running:
    """A server that answers, and what it printed."""

    server: Server
    folder: ModelDir
    voice: Quiet
    http: httpx2.Client

    @property
    def address(self) -> str:
        return self.server.serving.address

    @property
    def engine(self) -> EngineOfServer:
        return self.server.service.hosts.all[0].engine

    @property
    def catalogue(self) -> Catalogue:
        return self.server.service.hosts.all[0].catalogue

    @property
    def name(self) -> str:
        return self.folder.root.name

    def rows(self) -> int:
        """Answers that are being made or wait."""
        now = self.engine.counts()
        return now.answering + now.reading + now.waiting

    def wait_for(self, is_so: Callable[[], bool], seconds: float = 60) -> None:
        """Return once it is so."""
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, "it never came to be"
            time.sleep(0.01)

    def idle(self) -> None:
        """Return once nothing is being answered."""
        self.wait_for(lambda: self.rows() == 0)

    def chat(self, text: str, **more: object) -> httpx2.Response:
        """Ask the base, greedily."""
        body = {"model": self.name, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 8}
        return self.http.post("/v1/chat/completions", json=body | more)


def running(folder: ModelDir, request: ServeRequest, *others: ModelDir) -> Iterator[Running]:
    """A server in a thread of its own."""
    voice = Quiet()
    with opened([folder, *others], request, voice) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        with httpx2.Client(base_url=server.serving.address, timeout=120, headers=_headers(request)) as http:
            made = Running(server, folder, voice, http)
            made.wait_for(lambda: server.started)
            yield made
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


def _headers(request: ServeRequest) -> dict[str, str]:
    return {"Authorization": f"Bearer {request.api_key}"} if request.api_key else {}


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    """The built-in model with RUNS; ./lora is the first of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(tmp_path_factory.mktemp("home")))
        folder = ModelDir(install("tiny", say=lambda text: None).root)
    for seed, run in enumerate(RUNS):
        add_adapter(folder, run, seed, TOOLS_TEMPLATE if "tools" in run else "")
    folder.lora.symlink_to(folder.runs / RUNS[0] / "adapter")
    return folder


@pytest.fixture(scope="session")
def served(served_folder: ModelDir) -> Iterator[Running]:
    """The server that most tests ask."""
    yield from running(served_folder, ServeRequest(port=0, rows=24, queue=64, patience=2, heartbeat=0.2))
