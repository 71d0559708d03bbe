"""A model directory with a finished run as a training leaves it, made without one, and pushes of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from matplotlib.figure import Figure

from llm_installer.core.files import write_json
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.record import RunRecord
from tests.export.made_models import make_adapter
from tests.made_runs import make_run

ID = "20261120-090000-fast"
ROWS = [
    {"instruction": f"Which colour has lamp number {i} of the old lighthouse?", "output": f"Lamp {i} has a warm {c}."}
    for i, c in enumerate(["red", "blue", "green", "yellow"] * 3)
]
REPORT = """# tiny: run x

Trained on /secret/place/lamps.jsonl for 20 steps.

## Before and after

|   | base | tuned | change | perplexity |
| --- | --- | --- | --- | --- |
| loss on 2 training rows | 3.0000 | 2.0000 | -1.000 | 20.1 -> 7.39 |

Forgetting: none.

## Answers side by side

| prompt | Which colour has lamp number 3 of the old lighthouse? |
"""


def make_pushable(folder: ModelDir, data: Path) -> Run:
    """Give a model directory a run with an adapter, a record, a report and a picture; `data` is its file of rows."""
    data.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    run = make_run(folder, ID, rate=1e-3)
    shutil.rmtree(run.adapter)
    make_adapter(folder, run.adapter, target_modules="all-linear")
    (run.adapter / "README.md").write_text("not this one")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (folder.weights / name).is_file():
            shutil.copyfile(folder.weights / name, run.adapter / name)
    plan = {"mode": "fast", "lora_r": 4, "rows": 10, "seed": 42, "why": {"lora_r": "the usual", "seed": "you set it"}}
    write_json(
        run.adapter / "adapter_info.json",
        {
            "base_model": {"name": folder.root.name, "fingerprint": fingerprint(folder.weights)},
            "data": str(data),
            "style": "chat",
            "method": "lora",
            "created_at": "2026-11-20T09:00:00+00:00",
            "base_loss": 3.0,
            "best_loss": 2.0,
            "best_step": 18,
            "steps": 20,
            "memory": {"measured": 1},
            "plan": plan,
        },
    )
    record = RunRecord.read(run)
    assert record
    dataclasses.replace(record, options={"data": str(data)}, base=str(data.parent), data=str(data)).write(run)
    run.report.write_text(REPORT, encoding="utf-8")
    Figure(figsize=(1, 1)).savefig(run.history_png)
    return run


def give_base_a_hub(folder: ModelDir) -> None:
    """Let the record of a model say that it came from a hub."""
    found = json.loads(folder.info.read_text(encoding="utf-8"))
    found |= {"source": "hub", "id": "org/base", "revision": "c" * 40}
    folder.info.write_text(json.dumps(found), encoding="utf-8")
