"""A training that Python asks for: what it cannot ask, and one result for all processes of it."""

from __future__ import annotations

from dataclasses import fields

from llm_installer.core.errors import Interrupted, TrainingError, UsageError
from llm_installer.core.hints import program
from llm_installer.core.state import Result
from llm_installer.planning.options import Options


def refuse(asked: Options) -> None:
    """Raise an InstallerError for what is asked of a command only."""
    from llm_installer.distributed.launch import wanted

    if asked.model_path is None:
        raise UsageError("model_path=None: name the model directory")
    if asked.show or asked.dry_run:
        raise TrainingError("show and dry_run are for the command line; leave them out")
    if asked.controlling:
        raise UsageError("status, save_now and stop_now are about another training; give them to train.sh")
    if wanted(asked):
        raise UsageError(
            "Several GPUs need processes of their own; start this script with torchrun --nproc-per-node 2, or use the "
            f"command line: {program()} train --model-path DIR --data FILE --gpus 2"
        )


def trained(asked: Options, callbacks: object) -> Result:
    """The result of a run, in each of its processes. Raises InstallerError; Interrupted in each of them, too."""
    from llm_installer.distributed.launch import started
    from llm_installer.distributed.processes import handed, together
    from llm_installer.export.push.after import push_after, ready_to_push
    from llm_installer.train_lora import run
    from llm_installer.training.reporters.callbacks import as_callbacks
    from llm_installer.ui.console import Console

    ended: Result | tuple[str, int] | None = None
    with together():
        _refuse_differences(asked)
        try:
            if asked.push:
                ready_to_push(asked.push)
            found = run(started(asked), Console(), callbacks=as_callbacks(callbacks))
            if found and asked.push:
                push_after(found.folder, found.result.adapter, asked.push, Console())
            ended = found.result if found else None
        except Interrupted as error:
            ended = str(error), error.number
        ended = handed(ended)
    if isinstance(ended, tuple):
        raise Interrupted(*ended)
    assert ended is not None, "the main process has a result or an error"
    return ended


def _refuse_differences(asked: Options) -> None:
    """Raise UsageError, in all processes of a run, where they were not asked for the same."""
    from llm_installer.distributed.processes import greatest, handed

    main = handed(asked)
    other = [f.name for f in fields(asked) if getattr(asked, f.name) != getattr(main, f.name)]
    (count,) = greatest(len(other))
    if count:
        which = f"{other[0]}={getattr(asked, other[0])!r} here" if other else "a setting"
        raise UsageError(f"The processes of this run were asked for different things ({which}); ask all for the same")
