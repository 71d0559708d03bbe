"""The engine shows pictures to models that see, one request at a time, and answers as transformers' generate does."""

from __future__ import annotations

import queue
from pathlib import Path

from llm_installer.core.examples import Message
from llm_installer.core.paths import ModelDir
from llm_installer.inference.engine.engine import Engine
from llm_installer.inference.engine.request import BASE, Done, Event, Request
from llm_installer.inference.generate import Sampling, answer
from llm_installer.models.base import load_base
from tests.vision.conftest import Seer


def test_pictures_are_seen(seer: Seer, pictures: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "seer"
    root.mkdir()
    (root / "model").symlink_to(seer.folder)
    (root / "model_info.json").write_text("{}", encoding="utf-8")
    model, encoder = load_base(seer.folder, "float32", "cpu").eval(), seer.encoder
    engine = Engine(ModelDir(root))
    assert "sees" in engine.why_alone
    wanted, heard = [], queue.SimpleQueue[Event]()
    asked = [("<image>\nWhat is it?", pictures[:1]), ("Hello!", []), ("<image>\n<image>\nWhich?", pictures[1:3])]
    for text, shown in asked:
        images = tuple(str(file) for file in shown)
        ids = encoder.prompt_ids([Message("user", text)], images=images)
        wanted.append(answer(model, encoder, ids, Sampling(10), images=images).text)
        engine.submit(Request(BASE, tuple(ids), 10, images=images, logprobs=1), heard.put)
    said, sure, ended = [""] * len(asked), [0.0] * len(asked), 0
    while ended < len(asked):
        event = heard.get(timeout=60)
        if isinstance(event, Done):
            assert not event.fault
            ended += 1
        else:
            said[ended] += event.text
            sure[ended] += sum(token.logprob for token in event.tokens)
    engine.close()
    assert said == wanted and len(set(sure)) == len(asked)
