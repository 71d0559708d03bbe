"""Names and addresses of others lead to the public internet or nowhere: what decides, and what then connects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.core import outward
from llm_installer.core.outward import (
    NotPublic,
    checked_url,
    decided,
    hub_client,
    is_public,
    public_transport,
    resolved,
)

_LOCAL = """
127.0.0.1 127.1.2.3 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 169.254.169.254
100.64.0.1 100.100.100.200 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 fec0::1
ff02::1 2001:db8::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::7f00:1
64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2002:c0a8:1::1 2001:0:7f00:1::1
"""
LOCAL = _LOCAL.split()
PUBLIC = ["8.8.8.8", "1.1.1.1", "140.82.112.3", "2606:4700:4700::1111", "2a00:1450:4001:800::200e"]
NUMBERS = ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "017700000001", "127.0.1", "0", "localhost"]
"""What the system reads as an address of this machine."""


def test_which_addresses_are_public() -> None:
    assert [one for one in LOCAL if is_public(one)] == []
    assert [one for one in PUBLIC if not is_public(one)] == []
    assert not is_public("example.org") and not is_public("") and not is_public("1.2.3")


@given(st.ip_addresses(v=4))
def test_an_address_within_another_is_as_public_as_it_is(address: object) -> None:
    """However an IPv4 address is written in an IPv6 one, it does not become more public."""
    if not is_public(str(address)):
        high, low = int(address) >> 16, int(address) & 0xFFFF  # type: ignore[call-overload]
        for form in (f"::ffff:{address}", f"64:ff9b::{address}", f"2002:{high:x}:{low:x}::1", f"::{high:x}:{low:x}"):
            assert not is_public(form), form


@pytest.mark.parametrize("host", [*NUMBERS, "[::1]", "[::ffff:7f00:1]", "\uff11\uff12\uff17.0.0.1", "a" * 300, "a\0b"])
def test_numbers_that_mean_this_machine_are_refused(host: str) -> None:
    with pytest.raises(NotPublic):
        decided(host, 80)


def test_a_name_with_a_public_and_a_private_address_is_a_trap() -> None:
    with pytest.raises(NotPublic):
        decided("evil.test", 443, lambda host, port: ["8.8.8.8", "127.0.0.1"])
    with pytest.raises(NotPublic):
        decided("evil.test", 443, lambda host, port: [])
    assert decided("good.test", 443, lambda host, port: ["8.8.8.8", "1.1.1.1"]) == "8.8.8.8"
    assert "127.0.0.1" in resolved("127.1", 80)


@contextmanager
def listening(location: str = "") -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """A server on loopback that answers, or leads elsewhere: (its port, (path, Host) of what it was asked)."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["host"]))
            self.send_response(302 if location else 200)
            self.send_header("content-length", "2")
            if location:
                self.send_header("location", location)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("host", [*NUMBERS, "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_nothing_of_this_machine_is_fetched(host: str) -> None:
    with listening() as (port, asked), httpx2.Client(transport=public_transport()) as client:
        with pytest.raises((NotPublic, httpx2.InvalidURL)):
            client.get(f"http://{host}:{port}/")
        assert asked == []
        assert httpx2.get(f"http://127.0.0.1:{port}/", trust_env=False).text == "ok", "it would have answered"


def test_it_connects_to_the_address_that_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is looked at, and this machine a moment later: it is looked at once."""
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])
    tried: list[object] = []

    def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        tried.append(address)
        raise OSError("not in a test")

    monkeypatch.setattr(socket, "create_connection", connect)
    with httpx2.Client(transport=public_transport(lambda host, port: next(answers))) as client:
        with pytest.raises(httpx2.ConnectError):
            client.get("http://changes.test:8080/")
        with pytest.raises(NotPublic):
            client.get("http://changes.test:8080/")
    assert tried == [("8.8.8.8", 8080)]


def test_the_server_is_asked_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outward, "is_public", lambda text: True)
    transport = public_transport(lambda host, number: ["127.0.0.1"])
    with listening() as (port, asked), httpx2.Client(transport=transport) as client:
        assert client.get(f"http://name.test:{port}/x").text == "ok"
    assert asked == [("/x", f"name.test:{port}")]


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]:{port}/in",
                                    "http://127.0.0.1:{port}/in", "http://2130706433:{port}/in"])  # fmt: skip
def test_a_hub_that_leads_inside_is_not_followed(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as (inside, seen), listening(target.format(port=inside)) as (port, asked):
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with hub_client() as client, pytest.raises(NotPublic):
            client.get(f"http://127.0.0.1:{port}/api/models/a/b")
        assert len(asked) == 1 and seen == []


def test_behind_a_proxy_addresses_in_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as (port, asked):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with hub_client() as client:
            for host in ("169.254.169.254", "2130706433", "[::1]", "localhost"):
                with pytest.raises(NotPublic):
                    client.get(f"http://{host}/")
            assert asked == []
            assert client.get("http://hub.test/x").text == "ok", "the proxy finds the others"


@pytest.mark.parametrize("url", ["http://a.org/x", "https://", "https://user:pw@a.org", "file:///etc/passwd",
                                 "https://a.org:0/", "https://a.org:99999/", "https://a b/", "https://a.org\\@b.org/",
                                 "gopher://a", "//a.org", "https://\u00e4.org/", "https://a.org/\n"])  # fmt: skip
def test_addresses_that_nobody_should_type(url: str) -> None:
    with pytest.raises(NotPublic):
        checked_url(url)
    assert checked_url("https://example.org:8443/hook?a=b")
