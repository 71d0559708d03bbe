"""An image inside a request is shown to the model as the same image in a file is; anything else is refused."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from llm_installer.core.examples import Message
from llm_installer.server.messages import read_messages
from llm_installer.server.problems import Problem
from llm_installer.server.voices import Voice
from tests.vision.conftest import Seer


def test_an_image_inside_a_request(seer: Seer, pictures: list[Path]) -> None:
    voice = Voice(seer.encoder, "chat", 10_000)
    inside = f"data:image/png;base64,{base64.b64encode(pictures[0].read_bytes()).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": inside}}, {"type": "text", "text": "What is it?"}]
    messages, images = read_messages([{"role": "user", "content": parts}])
    wanted = seer.encoder.prompt_ids([Message("user", "<image>What is it?")], images=[str(pictures[0])])
    assert voice.chat_ids(messages, "", images, 4000) == tuple(wanted)
    for broken in (inside[:60], "data:image/png;base64,!!!", "data:image/png,abc"):
        parts[0]["image_url"] = {"url": broken}
        messages, images = read_messages([{"role": "user", "content": parts}])
        with pytest.raises(Problem) as refused:
            voice.chat_ids(messages, "", images, 4000)
        assert refused.value.status == 400
    huge = io.BytesIO()
    Image.new("1", (1 << 13, 1 << 13)).save(huge, "PNG")  # 10 kB
    large = {"url": f"data:image/png;base64,{base64.b64encode(huge.getvalue()).decode()}"}
    many = [{"type": "image_url", "image_url": large}] * 2
    messages, images = read_messages([{"role": "user", "content": many}])
    with pytest.raises(Problem, match="134,217,728 pixels, and a request may have"):
        voice.chat_ids(messages, "", images, 4000)
    parts[0]["image_url"] = {"url": str(pictures[0])}
    with pytest.raises(Problem, match="must come inside"):
        read_messages([{"role": "user", "content": parts}])
    with pytest.raises(Problem, match="may not contain"):
        parts[0]["image_url"] = {"url": inside}
        read_messages([{"role": "user", "content": [*parts, {"type": "text", "text": "<image>"}]}])
