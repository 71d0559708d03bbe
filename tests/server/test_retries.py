"""A client that tries again, after an error that came between or because it waited too long: one answer is made for it,
and nothing of the tries before goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx2
import pytest

from tests.server.conftest import RUNS, Running
from tests.server.test_clients import endless

openai = pytest.importorskip("openai")
FAULT = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@contextmanager
def once_broken(served: Running) -> Iterator[str]:
    """An address of a proxy that answers the first request with 500 once the server is at work on it, and hands on all
    others."""
    server = httpx2.URL(served.address)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        pool = stack.enter_context(ThreadPoolExecutor(5))

        def passes(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while some := source.recv(65536):
                    target.sendall(some)
                target.shutdown(socket.SHUT_WR)

        def meets() -> None:
            for number in range(2):
                client = stack.enter_context(listener.accept()[0])
                there = stack.enter_context(socket.create_connection((server.host, server.port or 80)))
                pool.submit(passes, client, there)
                if number == 0:
                    served.wait_for(lambda: served.engine.counts().answering > 0)
                    client.sendall(FAULT)
                    for each in (there, client):
                        each.shutdown(socket.SHUT_RDWR)
                else:
                    pool.submit(passes, there, client)

        meeting = pool.submit(meets)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        meeting.result()


def test_after_a_500_one_answer_is_made(served: Running) -> None:
    served.idle()
    stops = served.engine.served["base"].encoder.stop_ids
    before = served.engine.counts()
    with once_broken(served) as address, openai.OpenAI(base_url=address, api_key="none", timeout=120) as client:
        answer = client.chat.completions.create(
            model=served.name,
            messages=[{"role": "user", "content": "Who are you?"}],
            max_tokens=300,
            logit_bias={str(i): -100 for i in stops},
        )
    after = served.engine.counts()
    assert answer.usage.completion_tokens == 300
    assert after.requests - before.requests == 2
    assert after.new_tokens - before.new_tokens < 600, "the first try was given up in the middle"
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
