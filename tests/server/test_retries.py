"""A client that tries again, after an error that came between or because it waited too long: one answer is made for it,
and nothing of the tries before goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx2
import pytest

from llm_installer.core.paths import ModelDir
from llm_installer.server.request import ServeRequest
from tests.server.conftest import RUNS, Running, running
from tests.server.test_clients import endless

openai = pytest.importorskip("openai")
LONG = 300
"""Tokens of an answer that is still being made when its client hears of a fault."""
FAULTS = {
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    "503": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    "dropped": b"",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConte",
}
"""What a client hears of its first try, until its connection is closed."""


@contextmanager
def once_broken(served: Running, fault: bytes) -> Iterator[str]:
    """An address of a proxy that answers the first request with `fault` once the server is at work on it, and hands on
    all others."""
    server, before = httpx2.URL(served.address), served.engine.counts().requests
    with ExitStack() as stack, ThreadPoolExecutor(5) as pool:  # nothing is closed while something still reads it
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def passes(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while some := source.recv(65536):
                    target.sendall(some)
            with suppress(OSError):  # who hangs up without a word is gone, too
                target.shutdown(socket.SHUT_WR)

        def meets() -> None:
            for number in range(2):
                client = stack.enter_context(listener.accept()[0])
                there = stack.enter_context(socket.create_connection((server.host, server.port or 80)))
                pool.submit(passes, client, there)
                if number == 0:
                    served.wait_for(lambda: served.engine.counts().requests > before)
                    client.sendall(fault)
                    for each in (there, client):
                        each.shutdown(socket.SHUT_RDWR)
                else:
                    pool.submit(passes, there, client)

        meeting = pool.submit(meets)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        meeting.result()


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_one_answer_is_made(served: Running, fault: str) -> None:
    served.idle()
    stops = served.engine.served["base"].encoder.stop_ids
    before = served.engine.counts()
    with (
        once_broken(served, FAULTS[fault]) as address,
        openai.OpenAI(base_url=address, api_key="none", timeout=120) as client,
    ):
        answer = client.chat.completions.create(
            model=served.name,
            messages=[{"role": "user", "content": "Who are you?"}],
            max_tokens=LONG,
            logit_bias={str(i): -100 for i in stops},
        )
    after = served.engine.counts()
    assert answer.usage.completion_tokens == LONG
    assert after.requests - before.requests == 2
    assert after.new_tokens - before.new_tokens < 2 * LONG, "the first try was given up in the middle"
    served.idle()
    assert not served.server.service._open


def test_tries_that_waited_too_long_leave_nothing(served: Running) -> None:
    served.idle()
    before = served.engine.counts().requests
    with (
        openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", timeout=0.3, max_retries=1) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.post("/chat/completions", body=json.loads(endless(served, n=8)), cast_to=object)
    served.idle()
    assert served.engine.counts().requests - before <= 2 and not served.server.service._open
    assert served.chat("Hi", model=f"{served.name}:{RUNS[0]}").status_code == 200


@pytest.fixture(scope="module")
def small(served_folder: ModelDir) -> Iterator[Running]:
    """A server that answers one request at a time, while one more may wait."""
    yield from running(served_folder, ServeRequest(port=0, rows=1, queue=1))


def asks_until(
    served: Running, status: int, then: Callable[[], object]
) -> tuple[openai.types.chat.ChatCompletion, list[int]]:
    """(what a client that tries again gets, every status that it heard); `then` is called at the first `status`."""
    heard: list[int] = []

    def hears(answer: httpx2.Response) -> None:
        heard.append(answer.status_code)
        if heard.count(status) == 1 and answer.status_code == status:
            then()

    http = openai.DefaultHttpxClient(event_hooks={"response": [hears]})
    with openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", timeout=120, http_client=http) as client:
        messages = [{"role": "user", "content": "Hi"}]
        return client.chat.completions.create(model=served.name, messages=messages, max_tokens=3), heard


def test_a_client_comes_again_when_a_full_server_says_so(small: Running) -> None:
    body, counts, taken = endless(small, stream=True), small.engine.counts, ExitStack()
    for is_so in (lambda: counts().answering == 1, lambda: counts().waiting == 1):
        taken.enter_context(small.http.stream("POST", "/v1/chat/completions", content=body))
        small.wait_for(is_so)
    with taken:
        answer, heard = asks_until(small, 429, taken.close)
    assert heard == [429, 200] and answer.usage.completion_tokens >= 1
    small.idle()


def test_a_client_comes_again_when_a_server_was_away(small: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(small.engine, "fault", "RuntimeError: broken")
        answer, heard = asks_until(small, 503, broken.undo)
    assert heard == [503, 200] and answer.choices[0].message.content is not None


def test_what_is_wrong_is_not_tried_again(small: Running) -> None:
    before = small.engine.counts().requests
    for more in ({"n": -1}, {"model": "gone"}, {"max_tokens": 10**7}):
        heard: list[int] = []
        http = openai.DefaultHttpxClient(event_hooks={"response": [lambda answer, heard=heard: heard.append(1)]})
        with (
            openai.OpenAI(base_url=f"{small.address}/v1", api_key="none", http_client=http) as client,
            pytest.raises((openai.BadRequestError, openai.NotFoundError)),
        ):
            asked = {"model": small.name, "messages": [{"role": "user", "content": "Hi"}], **more}
            client.chat.completions.create(**asked)
        assert len(heard) == 1
    assert small.engine.counts().requests == before
