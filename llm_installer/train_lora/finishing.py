"""The third step: what the run changed, which adapter ./lora is now, and the report."""

from __future__ import annotations

from functools import partial

from llm_installer.core.changes import Changes
from llm_installer.core.paths import Run
from llm_installer.core.run.signals import early_end
from llm_installer.core.speed import timed
from llm_installer.core.voice import Voice
from llm_installer.runs.current import settle
from llm_installer.runs.outcome import Compared, Outcome, outcome
from llm_installer.train_lora.training import Trained


def finish(trained: Trained, voice: Voice) -> Outcome:
    """Evaluate what the run changed, switch ./lora to the adapter where nothing speaks against it, write report.md.

    A signal ends the comparison, and nothing else.
    """
    from llm_installer.training.questions import Comparison, before_after

    job, result, state = trained.job, trained.result, trained.state
    changes, answers = None, list[Comparison]()
    with early_end(trained.asked) as early, voice.waiting("Evaluating what the run changed"):
        if not trained.trainer.sharded:  # to evaluate takes all processes, and the others have ended
            with timed(state.phases, "compare"):
                changes = early.attempt(lambda: _changes(trained), None)
        lora = settle(job, result, changes)
        if changes and not job.options.skip_test:
            given = job.given.validation if len(job.given.validation) else job.given.train
            asked = partial(before_after, trained.trainer, job.encoder, given, job.options.test_prompt)
            with timed(state.phases, "answer"), voice.waiting("Asking base and tuned model"):
                answers = early.attempt(asked, answers)
        return outcome(job, state, result, lora, Compared(changes, answers, early.stopped))


def _changes(trained: Trained) -> Changes | None:
    """The losses of base and tuned model on the same rows."""
    from llm_installer.training.evaluation import choose_side, evaluate_changes
    from llm_installer.training.own_text import own_text

    job, data, state, seed = trained.job, trained.data, trained.state, trained.job.plan.seed
    training = choose_side(job.prepared.train, data.train_slice, seed, state)
    validation = choose_side(job.prepared.validation, data.validation, seed, state)
    own = own_text(trained.trainer, job.encoder, state, job.info.max_positions, Run(trained.result.run).own_text)
    return evaluate_changes(trained.trainer, job.encoder, training, validation, own, job.info.path)
