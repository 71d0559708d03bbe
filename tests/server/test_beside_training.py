"""A training beside a server of the same model: neither waits for the other, and the new run is served."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llm_installer.core.hardware import memory_bytes
from llm_installer.core.paths import ModelDir
from llm_installer.core.process_memory import resident_bytes
from llm_installer.install.installer import install
from llm_installer.runs.listing import use
from llm_installer.server.request import ServeRequest
from tests.commands import Begun, command
from tests.server.conftest import running
from tests.tiers import minutes


@minutes
@pytest.mark.slow
def test_a_model_is_trained_while_it_is_served(llm_home: Path, tmp_path: Path) -> None:
    folder = ModelDir(install("tiny", say=lambda text: None).root)
    data = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"Say {word}.", "answer": f"{word}!"} for word in ("one", "two", "three", "four") * 30]
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    for served in running(folder, ServeRequest(port=0)):
        said = served.chat("Who are you?").json()["choices"]
        # What a plan may use is what is free now, so that it sees what the server holds.
        assert memory_bytes()[0] <= memory_bytes()[1] - resident_bytes()
        training = Begun("train", folder.root, "--data", data, "--epochs", "2", "--mode", "fast")
        try:
            meanwhile = 0
            while training.poll() is None:
                assert served.chat("Who are you?").json()["choices"] == said
                meanwhile += 1
            out, err = training.communicate()
        finally:
            training.close()
        assert training.returncode == 0 and "Adapter:" in out, out + err
        assert meanwhile > 3
        (run,) = [path.name for path in folder.runs.iterdir() if not path.name.startswith(".")]
        assert f"tiny:{run}" in {model["id"] for model in served.http.get("/v1/models").json()["data"]}
        use(folder, run)
        models = {model["id"]: model for model in served.http.get("/v1/models").json()["data"]}
        assert models["tiny:lora"]["root"] == f"tiny:{run}"
        tuned = served.chat("Say two.", model="tiny:lora").json()["choices"][0]["message"]["content"]
        assert tuned != served.chat("Say two.").json()["choices"][0]["message"]["content"]
        assert served.chat("Who are you?").json()["choices"] == said
        removing = command("adapters", "tiny", "remove", run, "--force", "--yes")
        assert removing.returncode == 1 and f"Run {run} is served by process {os.getpid()}" in removing.stderr
        assert (folder.runs / run / "adapter" / "adapter_model.safetensors").is_file()
    assert command("adapters", "tiny", "remove", run, "--force", "--yes").returncode == 0, "nobody serves it any more"
