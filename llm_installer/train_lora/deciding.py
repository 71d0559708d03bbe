"""The first step: from what somebody asked for to a plan. No weight is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llm_installer.core.hardware import probe_hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.samples import ANSWER_TOKENS
from llm_installer.core.speed import timed
from llm_installer.core.voice import Voice
from llm_installer.data.encoding.known_tokens import refuse_unknown_tokens
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.encoding.prompts import read_prompts
from llm_installer.data.prepare import prepare, read, room
from llm_installer.distributed.launch import check_processes
from llm_installer.planning.contradictions import refuse_contradictions
from llm_installer.planning.cuts import refuse_lost_answers
from llm_installer.planning.decide import make_plan
from llm_installer.planning.options import Options
from llm_installer.planning.registry import find_handler
from llm_installer.planning.trackers import asked as asked_trackers
from llm_installer.runs.job import Job
from llm_installer.runs.output import refuse_output
from llm_installer.runs.resume import find_unfinished, resumed


def decide(options: Options, voice: Voice, base: Path | None = None) -> Job:
    """Model, data, plan: everything that can fail before a weight is loaded, in that order.

    Raises UsageError, ModelError, DataError, or TrainingError where there is nothing to resume, or no room.
    """
    base, folder = base or Path.cwd(), ModelDir.find(options.model_path)
    refuse_contradictions(options)
    check_processes(options)
    unfinished, anyway = find_unfinished(folder, options, base, voice.line), options.resume_anyway
    if unfinished:
        base, options = base if options.sources else Path(unfinished.record.base), unfinished.options
        refuse_contradictions(options)
    asked_trackers(options)  # refuses an unknown one
    refuse_output(options)
    info = read_model_info(folder.weights, folder.root.name)
    handler = find_handler(info)
    phases: dict[str, float] = {}
    with timed(phases, "read"), voice.waiting("Reading the data"):
        given = read(options, base)
    encoder = load_encoder(info, options.train_on_prompt)
    with timed(phases, "encode"), voice.progress("Encoding") as progress:
        prepared = prepare(given, encoder, options, info, handler, progress)
    if not unfinished or anyway:
        refuse_lost_answers(prepared.cut, options, room(prepared.length[0], info, handler))
    refuse_unknown_tokens(prepared.train, encoder.tokenizer, info)
    hardware = probe_hardware()
    plan = make_plan(options, info, handler, hardware, prepared.facts, prepared.length)
    job = Job(options, base, folder, info, handler, hardware, encoder, given, prepared, plan, phases=phases)
    if options.eval_prompts:
        file = base / Path(options.eval_prompts).expanduser()
        job = replace(job, prompts=read_prompts(file, encoder, job.kind, (info.max_positions or 10**6) - ANSWER_TOKENS))
    job = resumed(job, unfinished, anyway) if unfinished else job
    from llm_installer.training.start import checked  # here, for it takes seconds, and what is above may refuse first

    return replace(job, plan=checked(job.plan, info, folder.root))
