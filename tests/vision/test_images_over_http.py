"""Images in requests of the real `openai` client to a real server of a model that sees; and addresses that it must not
read, which it refuses without looking at a file or the network."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_installer.core.examples import Message
from llm_installer.core.paths import ModelDir
from llm_installer.inference.generate import Sampling, answer
from llm_installer.models.base import load_base
from llm_installer.server.request import ServeRequest
from tests.server.conftest import Running, running
from tests.server.test_attacks import SECRET_FILES, watched
from tests.vision.conftest import Seer

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def seer_served(make_seer: Callable[[str], Seer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("served") / "seer"
    root.mkdir()
    (root / "model").symlink_to(make_seer("llava").folder)
    (root / "model_info.json").write_text("{}", encoding="utf-8")
    yield from running(ModelDir(root), ServeRequest(port=0))


@pytest.fixture
def client(seer_served: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{seer_served.address}/v1", api_key="none", timeout=120, max_retries=0) as made:
        yield made


def parts(*urls: str, text: str = "What is it?") -> list[dict[str, object]]:
    images = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def inside(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def test_a_model_that_sees_is_shown_what_a_client_sends(
    seer_served: Running, client: openai.OpenAI, make_seer: Callable[[str], Seer], pictures: list[Path]
) -> None:
    seer = make_seer("llava")
    model, encoder = load_base(seer.folder, "float32", "cpu").eval(), seer.encoder
    for shown in (pictures[:1], pictures[1:3]):
        ids = encoder.prompt_ids([Message("user", "<image>" * len(shown) + "What is it?")], images=[*map(str, shown)])
        wanted = answer(model, encoder, ids, Sampling(10), images=tuple(map(str, shown))).text
        asked = {"model": seer_served.name, "messages": parts(*map(inside, shown)), "temperature": 0, "max_tokens": 10}
        whole = client.chat.completions.create(**asked, logprobs=True)
        assert whole.choices[0].message.content == wanted and whole.usage.prompt_tokens == len(ids)
        stream = client.chat.completions.create(**asked, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == wanted
        other = client.chat.completions.create(
            **asked | {"messages": parts(*map(inside, pictures[-len(shown) :]))}, logprobs=True
        )
        sure = [sum(token.logprob for token in each.choices[0].logprobs.content) for each in (whole, other)]
        assert sure[0] != sure[1], "another picture is another question"
    (model_shown,) = client.models.list().data
    assert model_shown.images is True


@pytest.fixture
def asked_of_the_web() -> Iterator[tuple[str, list[str]]]:
    """The address of a picture on a web server of this machine, and what that was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/picture.png", asked
        server.shutdown()
        thread.join()


def test_what_is_not_in_the_request_is_not_read(
    seer_served: Running, client: openai.OpenAI, pictures: list[Path], asked_of_the_web: tuple[str, list[str]]
) -> None:
    url, asked = asked_of_the_web
    places = [url, f"file://{pictures[0]}", str(pictures[0]), "http://169.254.169.254/latest", "ftp://127.0.0.1/a.png"]
    places += [f"file://{file}" for file in SECRET_FILES]
    svg = "<svg xmlns='http://www.w3.org/2000/svg' xmlns:x='http://www.w3.org/1999/xlink'><image x:href='file:///etc/passwd'/></svg>"
    places.append("data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode())
    places.append("data:text/html,<img src='file:///etc/passwd'>")
    with watched((*SECRET_FILES, str(pictures[0]))) as seen:
        for place in places:
            with pytest.raises(openai.BadRequestError) as refused:
                client.chat.completions.create(model=seer_served.name, messages=parts(place), max_tokens=2)
            assert refused.value.param == "messages" and "image" in str(refused.value), place
            outside = not place.startswith("data:image")
            assert ("must come inside the request" in str(refused.value)) == outside, place
    assert (seen, asked) == ([], [])
    seer_served.idle()
    right = client.chat.completions.create(model=seer_served.name, messages=parts(inside(pictures[0])), max_tokens=2)
    assert right.choices[0].message.content is not None
