"""The story of a training run in three steps: decide -> Job, train -> Trained, finish -> Outcome.

Run as: llm-installer train --model-path DIR --data my.json   (or DIR/train.sh --data my.json)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llm_installer.core.paths import ModelDir
from llm_installer.core.run.lock import only_training
from llm_installer.core.startup import import_bitsandbytes
from llm_installer.core.voice import STARTING, Voice
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.runs.outcome import Outcome
from llm_installer.train_lora.deciding import decide
from llm_installer.train_lora.finishing import finish
from llm_installer.train_lora.training import train

__all__ = ["decide", "finish", "run", "train"]


def run(options: Options, voice: Voice, base: Path | None = None, callbacks: Sequence[object] = ()) -> Outcome | None:
    """All three steps. None in the processes beside the main one.

    --show and --dry-run are not looked at here. Raises InstallerError when it cannot be done.
    """
    with voice.waiting(STARTING):
        from llm_installer.distributed.processes import main_first, main_only, of_main, together

    folder = ModelDir.find(options.model_path)
    folder.require_writable()
    with together(), main_only(lambda: only_training(folder), lambda run: None) as tell_run:
        with main_first(), voice.waiting(STARTING):
            job = decide(options, voice, base)
        voice.show(job)
        # Free memory differs from process to process: one of them plans for all.
        job = replace(job, plan=Plan.from_json(of_main(job.plan.to_json)))
        with voice.waiting(STARTING):
            import_bitsandbytes()
        trained = train(job, voice, tell_run, callbacks)
        found = finish(trained, voice) if trained else None
    if found:
        voice.show(found)
        if found.stopped:
            raise found.stopped
    return found
