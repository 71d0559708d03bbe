"""Runs as a training leaves them, made of files alone."""

from __future__ import annotations

import dataclasses
import json
import struct

from llm_installer.core.files import write_json
from llm_installer.core.manifest import write_manifest
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.record import FINISHED, RunRecord


def no_tensors(name: str) -> bytes:
    """A safetensors file without a tensor, of a content of its own."""
    body = json.dumps({"__metadata__": {"run": name}}).encode()
    return struct.pack("<Q", len(body)) + body


def make_run(folder: ModelDir, name: str, rate: float, status: str = FINISHED) -> Run:
    """A run with this id; with an adapter where it is finished."""
    run = Run(folder.runs / name)
    run.root.mkdir(parents=True)
    values = {"mode": name[16:], "learning_rate": rate, "limits": {"patience": 3}, "why": {"learning_rate": name}}
    write_json(run.plan, {**values, "seed": 1, "evaluation_rows": 8})
    result = {"steps": 20, "base_loss": 3.0, "best_loss": 2.0, "best_step": 18, "stop_reason": "all epochs are done"}
    record = RunRecord(status, "2026-11-20T09:00:00", {"data": "gone.jsonl"}, "/", "abc-def", {}, "m", "gone.jsonl")
    dataclasses.replace(record, result=result if status == FINISHED else {}).write(run)
    if status == FINISHED:
        run.adapter.mkdir()
        (run.adapter / "adapter_config.json").write_text("{}")
        (run.adapter / "adapter_model.safetensors").write_bytes(no_tensors(name))
        base = {"name": "tiny-llama", "fingerprint": fingerprint(folder.weights)}
        write_json(run.adapter / "adapter_info.json", {"base_model": base})
        write_manifest(run.adapter)
    return run
