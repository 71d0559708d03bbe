"""What a server refuses: always in OpenAI's shape, never with a 500, and never by reading a file or the network."""

from __future__ import annotations

import hmac
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_installer.core.errors import UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.server.fields import CHAT, COMPLETION
from llm_installer.server.request import ServeRequest, check
from tests.server.conftest import RUNS, Running, running

HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)


def image(url: object) -> list[object]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]


def call(arguments: object) -> list[object]:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    return [*HI, {"role": "assistant", "content": None, "tool_calls": calls}, {"role": "tool", "content": "x"}]


BAD: list[tuple[dict[str, object], str | None]] = [
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": [1]}, "messages"),
    ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages"),
    ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages"),
    ({"messages": image({"url": "file:///etc/passwd"})}, "messages"),
    ({"messages": image({"url": "http://169.254.169.254/latest"})}, "messages"),
    ({"messages": image("/etc/passwd")}, "messages"),
    ({"messages": image({"url": PIXEL})}, "messages"),
    ({"messages": call('{"a": ' + "[" * 500 + "]" * 500 + "}")}, "messages"),
    ({"messages": [*HI, {"role": "assistant", "content": "", "tool_calls": [{"id": 3}]}]}, "messages"),
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"n": 0}, "n"),
    ({"n": -1}, "n"),
    ({"n": 100}, "n"),
    ({"n": 1.5}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_tokens": 10**9}, "messages"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"logit_bias": {"a": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 1000}}, "logit_bias"),
    ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
    ({"messages": HI * 2000}, "messages"),
    ({"tools": [TOOL] * 129}, "tools"),
    ({"top_logprobs": 5}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": 5}}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"audio": {"voice": "alloy"}}, "audio"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"repetition_penalty": 1.3}, "repetition_penalty"),
    ({"guided_json": {}}, "guided_json"),
]


def refused(answer: httpx2.Response, status: int = 400) -> dict[str, object]:
    """The error in an answer, which must have OpenAI's shape."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


@pytest.mark.parametrize(("change", "param"), BAD, ids=lambda each: json.dumps(each)[:50] if each else "")
def test_a_field_that_is_wrong_is_named(served: Running, change: dict[str, object], param: str | None) -> None:
    body = {"model": served.name, "messages": HI, "max_tokens": 2} | change
    assert refused(served.http.post("/v1/chat/completions", json=body))["param"] == param
    assert served.rows() == 0


BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"model": NaN}',
    b'{"model": "\\ud800"}',
    b'{"model": "\xff"}',
    b"\xef\xbb\xbf{}",
    b'{"a":' + b"[" * 1_000_000,
    b'{"model":"tiny","messages":' + b"[" * 200 + b"]" * 200 + b"}",
    b'{"model": 1e999}',
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_body_that_is_no_request_is_refused(served: Running, body: bytes, path: str) -> None:
    refused(served.http.post(path, content=body))


def test_fields_that_change_nothing_are_taken(served: Running) -> None:
    more = {
        "user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "parallel_tool_calls": True,
        "reasoning_effort": "low", "verbosity": "low", "prompt_cache_key": "k", "safety_identifier": "s",
        "prediction": None, "modalities": ["text"], "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "stop": None,
        "logit_bias": {"5": -100}, "presence_penalty": 0.5, "frequency_penalty": 0.5, "made_up": 1, "seed": -5,
        "max_tokens": None, "max_completion_tokens": 2, "response_format": {"type": "text"}, "top_p": 0,
        "tools": [], "tool_choice": "none", "temperature": 1.5,
    }  # fmt: skip
    assert served.chat("Hi", **more).status_code == 200
    parts = [{"type": "text", "text": "Who"}, {"type": "text", "text": " are you?"}]
    spoken = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]
    plain = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who are you?"}]
    said = [served.chat("", messages=each).json()["choices"][0]["message"]["content"] for each in (spoken, plain)]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/nothing", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
        ("PUT", "/v1/models", 405),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/completions", 405),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "/docs", 404),
    ],
)
def test_other_paths_and_methods(served: Running, method: str, path: str, status: int) -> None:
    refused(served.http.request(method, path), status)


@pytest.mark.parametrize("name", ["", "base", "../tiny", "tiny:", "tiny:..", "tiny:nope", f"tiny:{RUNS[0]}/adapter"])
def test_a_name_that_is_not_served(served: Running, name: str) -> None:
    assert refused(served.chat("Hi", model=name), 404)["code"] == "model_not_found"


def test_web_pages_from_elsewhere_are_refused(served: Running) -> None:
    for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:80"}, {"Host": ""}):
        refused(served.http.get("/v1/models", headers=headers), 403)
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        refused(served.http.post("/v1/chat/completions", content=b"{}", headers={"Origin": origin}), 403)
    port = httpx2.URL(served.address).port
    for host in (f"localhost:{port}", f"[::1]:{port}", "LOCALHOST"):
        answer = served.http.get("/v1/models", headers={"Host": host, "Origin": f"http://{host}"})
        assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


@pytest.fixture(scope="module")
def guarded(served_folder: ModelDir) -> Iterator[Running]:
    """A server with a key that takes little."""
    request = ServeRequest(port=0, api_key="s3cret", rows=1, queue=1, body_bytes=100_000)
    yield from running(served_folder, request)


def test_the_key_is_wanted_and_never_said(guarded: Running, capfd: pytest.CaptureFixture[str]) -> None:
    for header in ("", "Bearer", "Bearer wrong", "Basic s3cret", "Bearer s3cret2", "Bearer s3crét"):
        headers = {"Authorization": header.encode()}
        for path in ("/v1/models", "/metrics", "/openapi.json"):
            error = refused(guarded.http.get(path, headers=headers), 401)
        assert error["code"] == "invalid_api_key"
    assert guarded.http.get("/v1/models", headers={"Host": "elsewhere.example"}).status_code == 200
    assert httpx2.get(f"{guarded.address}/health").json() == {"status": "ok"}
    assert "s3cret" not in "".join(capfd.readouterr())


def test_the_key_is_compared_in_constant_time(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    for key, status in (("wrong", 401), ("s3cret", 200)):
        assert guarded.http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == status
    assert compared == [(b"wrong", b"s3cret"), (b"s3cret", b"s3cret")]


def test_a_body_that_is_too_long_is_not_read_as_one(guarded: Running) -> None:
    assert refused(guarded.http.post("/v1/chat/completions", content=b" " * 250_000), 413)["code"]

    def unsized() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 8000

    refused(guarded.http.post("/v1/chat/completions", content=unsized()), 413)


def test_a_full_queue_says_when_to_come_again(guarded: Running) -> None:
    body = {"model": guarded.name, "messages": HI, "max_tokens": 400, "temperature": 1.5, "stream": True}
    body |= {"logit_bias": {str(i): -100 for i in guarded.engine.served["base"].encoder.stop_ids}}
    counts = guarded.engine.counts
    with guarded.http.stream("POST", "/v1/chat/completions", json=body):
        guarded.wait_for(lambda: counts().answering == 1)
        with guarded.http.stream("POST", "/v1/chat/completions", json=body):
            guarded.wait_for(lambda: counts().waiting == 1)
            answer = guarded.chat("Hi")
            assert refused(answer, 429)["code"] == "rate_limit_exceeded"
            assert int(answer.headers["retry-after"]) >= 1
            assert counts().waiting == 1
    guarded.idle()
    assert guarded.chat("Hi").status_code == 200


def test_a_schema_needs_a_package(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for more in (
        {"response_format": {"type": "json_object"}},
        {"tools": [TOOL], "tool_choice": "required"},
    ):
        assert "pip install llguidance" in str(refused(guarded.chat("Hi", **more))["message"])


def test_a_server_whose_engine_has_ended_says_so(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded.engine, "fault", "RuntimeError: broken")
    assert guarded.http.get("/health").status_code == 503
    assert "broken" in str(refused(guarded.chat("Hi"), 503)["message"])
    assert "llm_installer_up 0" in guarded.http.get("/metrics").text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["user", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type"]), inner),
    max_leaves=5,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[*HealthCheck])
@given(data=st.data())
@pytest.mark.parametrize(("path", "kinds"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)])
def test_no_request_is_a_server_error(
    served: Running, path: str, kinds: dict[str, object], data: st.DataObject
) -> None:
    right = {"model": served.name, "messages": HI, "prompt": "Hi", "max_tokens": 1}
    wrong = data.draw(st.dictionaries(st.sampled_from(sorted(kinds)), VALUES, min_size=1, max_size=3))
    body = json.dumps(right | wrong).encode("utf-8", "surrogatepass")
    answer = served.http.post(path, content=body)
    assert answer.status_code in (200, 400, 404), answer.text
    assert answer.status_code == 200 or answer.json()["error"]["message"]


def test_the_network_is_reached_with_a_key_alone() -> None:
    with pytest.raises(UsageError, match="--api-key"):
        check(ServeRequest(host="0.0.0.0"))
    check(ServeRequest(host="0.0.0.0", api_key="k"))
    with pytest.raises(UsageError, match="spaces"):
        check(ServeRequest(api_key="a b"))


def test_an_address_that_cannot_be_had_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    from llm_installer.server.story import opened
    from tests.server.conftest import Quiet

    nothing = ModelDir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"Port {port} .* in use"),
            opened([nothing], ServeRequest(port=port), Quiet()),
        ):
            pass
    with (
        pytest.raises(UsageError, match="not an address"),
        opened([nothing], ServeRequest(host="192.0.2.1", api_key="k"), Quiet()),
    ):
        pass
