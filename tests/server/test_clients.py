"""Clients that leave, that do not read, that come in crowds; and runs that come and go meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Event

import httpx2
import pytest

from llm_installer.core.errors import TrainingError
from llm_installer.core.files import switch_link
from llm_installer.core.paths import ModelDir
from llm_installer.core.process_memory import resident_bytes
from llm_installer.core.run.served import servers
from llm_installer.runs.listing import remove, use
from llm_installer.server import answering
from llm_installer.server.request import ServeRequest
from tests.server.conftest import RUNS, Running, add_adapter, running

ASK = [{"role": "user", "content": "Tell me a very long story."}]


def endless(served: Running, **more: object) -> bytes:
    """A request whose answer takes long: nothing that ends one may be chosen."""
    stops = served.engine.served["base"].encoder.stop_ids
    body = {"model": served.name, "messages": ASK, "max_tokens": 900, "logit_bias": {str(i): -100 for i in stops}}
    return json.dumps(body | more).encode()


def sent(served: Running, body: bytes) -> socket.socket:
    """A connection on which a request was sent."""
    url = httpx2.URL(served.address)
    found = socket.create_connection((url.host, url.port or 80), timeout=60)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body)}\r\n\r\n"
    found.sendall(head.encode() + body)
    return found


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_rows(served: Running, stream: bool) -> None:
    engine = served.engine
    before = engine.counts().new_tokens
    with sent(served, endless(served, stream=stream, n=2)) as client:
        served.wait_for(lambda: engine.counts().answering == 2)
        if stream:
            assert client.recv(10)
    served.idle()
    made = engine.counts().new_tokens
    assert made - before < 2 * 900, "they were not made to their ends"
    assert served.chat("Hi", max_tokens=1).status_code == 200
    assert engine.counts().new_tokens == made + 1
    assert not served.server.service._open


def test_a_client_that_leaves_the_queue_is_forgotten(served: Running) -> None:
    engine = served.engine
    clients = [sent(served, endless(served, n=24)) for _ in range(3)]
    served.wait_for(lambda: engine.counts().waiting == 2)
    for client in reversed(clients):
        client.close()
    served.idle()


@pytest.mark.slow
def test_a_client_that_does_not_read_is_cut_off_and_others_go_on(served: Running) -> None:
    body = endless(served, stream=True, n=20, logprobs=True, top_logprobs=20)
    url = httpx2.URL(served.address)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.connect((url.host, url.port or 80))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body)}\r\n\r\n"
        slow.sendall(head.encode() + body)
        served.wait_for(lambda: served.engine.counts().answering == 20)
        assert served.chat("Hi").status_code == 200  # beside it
        served.idle()  # long before its answers could have ended
        assert not served.server.service._open


def test_a_stream_that_waits_says_that_it_is_alive(served: Running) -> None:
    with sent(served, endless(served, n=24)):
        served.wait_for(lambda: served.rows() == 24)
        with served.http.stream("POST", "/v1/chat/completions", content=endless(served, stream=True)) as answer:
            lines = answer.iter_lines()
            assert '"role":"assistant"' in next(lines)
            assert any(line.startswith(":") for line in lines)
    served.idle()


def test_metrics_and_health(served: Running) -> None:
    served.idle()
    lines = served.http.get("/metrics").text.splitlines()
    figures = dict(line.split() for line in lines if not line.startswith("#"))
    assert figures["llm_installer_answering_rows"] == "0" and figures["llm_installer_up"] == "1"
    assert int(figures["llm_installer_generated_tokens_total"]) > 0
    assert served.http.get("/health").json() == {"status": "ok"}


def test_runs_come_change_and_go_while_they_are_served(served: Running) -> None:
    folder, base = served.folder, served.name
    new = "20260201-100000-full"
    adapter = add_adapter(folder, new, seed=11)
    one, other = (served.chat("Who are you?", model=f"{base}:{run}").json() for run in (new, RUNS[0]))
    assert one["choices"] != other["choices"] and one["system_fingerprint"] != other["system_fingerprint"]

    def said(model: str) -> object:
        return served.chat("Who are you?", model=f"{base}:{model}").json()["choices"]

    assert said("lora") == other["choices"]
    switch_link(folder.lora, adapter)
    assert said("lora") == one["choices"]
    switch_link(folder.lora, folder.runs / RUNS[0] / "adapter")
    assert said("lora") == other["choices"]

    with pytest.raises(TrainingError, match=f"Run {new} is served by process {os.getpid()}"):
        remove(folder, new, force=True)
    again = add_adapter_again(adapter, seed=12, served=served)
    assert said(new) != one["choices"], again
    for file in adapter.iterdir():
        file.unlink()
    assert f"{base}:{new}" not in [model["id"] for model in served.http.get("/v1/models").json()["data"]]
    assert served.chat("Hi", model=f"{base}:{new}").status_code == 404
    assert remove(folder, new).run.id == new  # it is not served any more


def test_who_never_ends_a_request_is_cut_off_at_the_end_without_a_word(
    served_folder: ModelDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answering, "GRACE", 0)
    for made in running(served_folder, ServeRequest(port=0)):
        with socket.create_connection(("127.0.0.1", int(made.address.rpartition(":")[2]))) as half:
            half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
            made.wait_for(lambda made=made: bool(made.server._uvicorn.server_state.tasks))
            made.server.stop()
            half.recv(99)
    assert not caplog.records


def test_a_run_may_be_called_what_the_server_calls_something_else(served: Running) -> None:
    folder, base = served.folder, served.name
    before = [served.chat("Who are you?", model=model).json()["choices"] for model in (base, f"{base}:lora")]
    names = ["base", "lora#2"]
    for seed, name in enumerate(names):
        add_adapter(folder, name, seed=seed + 20)
    found = [model["id"] for model in served.http.get("/v1/models").json()["data"]]
    assert len(found) == len(set(found)) and {f"{base}:{name}" for name in names} <= set(found)
    for name in names:
        shutil.rmtree(folder.runs / name)
        served.http.get("/v1/models").raise_for_status()
        after = [served.chat("Who are you?", model=model).json()["choices"] for model in (base, f"{base}:lora")]
        assert after == before, name


def add_adapter_again(adapter: Path, seed: int, served: Running) -> bool:
    """Other weights in the place of those of an adapter, as a training that goes on writes them."""
    temporary = "20260301-100000-full"
    made = add_adapter(served.folder, temporary, seed)
    os.replace(made / "adapter_model.safetensors", adapter / "adapter_model.safetensors")
    shutil.rmtree(served.folder.runs / temporary)
    return True


def test_a_run_that_cannot_be_served_is_said_once_and_named(served: Running) -> None:
    run = "20260401-100000-full"
    adapter = add_adapter(served.folder, run, seed=5)
    (adapter / "adapter_model.safetensors").write_bytes(b"nothing")
    for _ in range(2):
        refused = served.chat("Hi", model=f"{served.name}:{run}")
        assert refused.status_code == 404 and "adapter" in refused.json()["error"]["message"]
    assert len([line for line in served.voice.lines if run in line]) == 1
    remove(served.folder, run)


def test_a_server_that_was_killed_holds_nothing(tmp_path: Path, served: Running) -> None:
    (served.folder.root / ".serving-1-x.json").write_text(json.dumps({"pid": 1, "address": "", "runs": [RUNS[1]]}))
    assert [server.pid for server in servers(served.folder)] == [os.getpid()]
    assert not (served.folder.root / ".serving-1-x.json").exists()
    assert use(served.folder, RUNS[0])


SECRETS = ["walrus", "teapot", "glacier", "violin", "lantern", "cactus", "pelican", "marble"]


@pytest.mark.slow
def test_a_crowd_hears_what_each_would_hear_alone(served: Running) -> None:
    models = [served.name, *(f"{served.name}:{run}" for run in RUNS)]
    asked = [(model, f"The password is {word}. Say it.") for model in models for word in SECRETS]
    alone = {each: served.chat(each[1], model=each[0], max_tokens=12).json()["choices"] for each in asked}
    random = Random(1)

    def leaves(each: tuple[str, str]) -> None:
        """One that joins beside the others and hears only the beginning."""
        body = endless(served, model=each[0], messages=[{"role": "user", "content": each[1]}], stream=True)
        with sent(served, body) as client:
            client.recv(random.randrange(1, 2000))

    for _ in range(20):
        random.shuffle(asked)
        with ThreadPoolExecutor(len(asked) + 6) as pool:
            gone = [pool.submit(leaves, each) for each in asked[:6]]
            found = list(pool.map(lambda each: served.chat(each[1], model=each[0], max_tokens=12), asked))
            assert all(each.result() is None for each in gone)
        assert {each: answer.json()["choices"] for each, answer in zip(asked, found, strict=True)} == alone
    served.idle()


def test_what_lora_is_changes_between_requests_and_never_within_one(served: Running) -> None:
    """Twelve clients ask while it is switched: every answer is wholly that of one run."""
    runs = [served.folder.runs / run / "adapter" for run in RUNS[:2]]
    ask = {"model": f"{served.name}:lora", "max_tokens": 16}
    known: dict[str, str] = {}
    for run in (*runs[::-1], runs[0]):
        switch_link(served.folder.lora, run)
        answer = served.chat("Who are you?", **ask).json()
        known[answer["system_fingerprint"]] = answer["choices"][0]["message"]["content"]
    assert len(known) == len(set(known.values())) == 2
    over = Event()

    def asks(number: int) -> list[tuple[str, str]]:
        found = list[tuple[str, str]]()
        while not over.is_set():
            answer = served.chat("Who are you?", **ask)
            assert answer.status_code == 200, answer.text
            found.append((answer.json()["system_fingerprint"], answer.json()["choices"][0]["message"]["content"]))
        return found

    with ThreadPoolExecutor(12) as pool:
        going = [pool.submit(asks, number) for number in range(12)]
        try:
            for turn in range(10):
                before = served.engine.counts().requests
                switch_link(served.folder.lora, runs[(turn + 1) % 2])
                served.wait_for(lambda before=before: served.engine.counts().requests >= before + 12)
        finally:
            over.set()
        heard = [each for one in going for each in one.result()]
    assert set(heard) == set(known.items())
    switch_link(served.folder.lora, runs[0])


@pytest.mark.slow
def test_two_hundred_clients_that_leave_leave_nothing(served: Running) -> None:
    def leaves(number: int) -> None:
        with sent(served, endless(served, stream=number % 2 == 0)) as client:
            if number % 4 == 0:
                client.recv(2000)

    def twenty() -> None:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(leaves, range(20)))
        served.idle()

    for _ in range(2):
        twenty()
    before = resident_bytes()
    for _ in range(8):
        twenty()
    assert resident_bytes() < 1.05 * before
    assert not served.server.service._open
    assert served.chat("Hi").status_code == 200


@pytest.fixture(autouse=True)
def nothing_left(served: Running) -> Iterator[None]:
    yield
    served.idle()
