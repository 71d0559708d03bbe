"""What a training would be, as plain values for JSON; docs/reference/json.md says what each field means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from llm_installer.core.run.forecast import Forecast
from llm_installer.core.run.history import bounds
from llm_installer.data.document import Values, overview_values, shown_values
from llm_installer.data.inspection import overview_of, token_facts
from llm_installer.data.preview import first_rows
from llm_installer.planning.elsewhere import elsewhere
from llm_installer.planning.fitting import memory_rows
from llm_installer.planning.layers import adapter_parameters
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan, flat
from llm_installer.planning.settings import Described, described, flag
from llm_installer.planning.table import PlanRow, plan_rows
from llm_installer.runs.job import Job

BYTES = 4
"""Of a number of an adapter as it is published."""
SHOWN = 5
"""Rows that are shown token by token where no number is asked for."""


def job_values(job: Job) -> Values:
    """Model, machine, data, rows as tokens, plan, memory and time."""
    options, info, plan = job.options, job.info, job.plan
    tokens = token_facts(job.given, job.prepared, options, info, job.handler)
    preview = first_rows(job.given, job.encoder, job.prepared.length[0], options.show or SHOWN)
    return {
        "model": {
            "name": info.name,
            "path": str(job.folder.root),
            "parameters": info.parameters,
            "family": job.handler.name,
            "most_tokens": info.max_positions,
        },
        "machine": {**asdict(job.hardware), "summary": job.hardware.summary},
        "data": overview_values(overview_of(job.given, options, tokens)),
        "shown": shown_values(preview),
        "notes": list(job.notes),
        "plan": list(_plan(plan, options)),
        "memory": _memory(job),
        "adapter": _adapter(job),
        "time": _time(job.forecast),
        "elsewhere": list(_elsewhere(job)),
    }


def _plan(plan: Plan, options: Options) -> Iterator[Values]:
    settings = {flag(one.name): one for one in described(Options)}
    values = flat(plan.to_json())
    for row in plan_rows(plan):
        one = settings.get(row.flag)
        yield {
            "name": row.name,
            "value": row.value,
            "flag": row.flag or None,
            "why": row.why,
            "setting": _setting(one, options) if one else None,
            "number": _number(row, one, values),
        }


def _number(row: PlanRow, one: Described | None, values: Values) -> object:
    """The chosen value as it could be typed, where the plan has it by the name of its setting."""
    found = values.get(one.name) if one else None
    return found if isinstance(found, (int, float, str)) and not isinstance(found, bool) else None


def _setting(one: Described, options: Options) -> Values:
    """The option behind a row: its name, what it takes, and what was given."""
    given = getattr(options, one.name)
    return {
        "name": one.name,
        "type": "switch" if one.kind is bool else {int: "whole", float: "number"}.get(one.kind, "text"),
        "help": one.setting.help,
        "choices": list(one.setting.choices),
        "minimum": one.setting.minimum,
        "maximum": one.setting.maximum,
        "given": given if given != one.default else None,
    }


def _memory(job: Job) -> Values:
    hardware, plan = job.hardware, job.plan
    rows = memory_rows(plan.setup(job.info, hardware), plan.micro_batch_tokens)
    return {
        "predicted_bytes": plan.predicted_peak_bytes,
        "free_bytes": hardware.free_bytes,
        "total_bytes": hardware.total_bytes,
        "fits": plan.predicted_peak_bytes <= hardware.free_bytes,
        "ways": [{"setting": setting, "peak": peak, "verdict": verdict} for setting, peak, verdict in rows],
    }


def _elsewhere(job: Job) -> Iterator[Values]:
    """The same training on GPUs that could be rented."""
    facts = job.prepared.facts
    for one in elsewhere(job.info, job.plan, facts.mean_length, facts.rows):
        yield {"gpu": one.gpu, "least_seconds": round(one.least_seconds), "most_seconds": round(one.most_seconds)}


def _adapter(job: Job) -> Values:
    count = adapter_parameters(job.info, job.plan.lora_r, job.plan.target_modules)
    return {"parameters": count, "bytes": BYTES * count}


def _time(forecast: Forecast | None) -> Values | None:
    """None where nothing was timed."""
    if forecast is None:
        return None
    least, most = bounds(forecast.total, forecast.past)
    return {
        "words": forecast.range,
        "seconds": forecast.total,
        "least_seconds": least,
        "most_seconds": most,
        "step_seconds": forecast.step,
        "evaluation_seconds": forecast.evaluation,
        "early": forecast.early,
        "endless": forecast.endless,
    }
