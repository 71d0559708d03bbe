"""From the fields of a request to what the engine is asked: sampling, limits, stops, how the answer is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from llm_installer.inference.engine.request import Sampling
from llm_installer.server.fields import SEEDS, Body
from llm_installer.server.problems import invalid

NARROWEST = 1e-6
"""The nucleus that top_p 0 stands for: the likeliest token."""


@dataclass(frozen=True)
class Wish:
    """What chats and completions have in common."""

    model: str
    stream: bool
    usage: bool
    """Whether a stream ends with how many tokens there were."""
    n: int
    max_tokens: int | None
    """None where the request names no limit."""
    sampling: Sampling
    stop: tuple[str, ...]
    logprobs: int | None
    """As in the engine's Request."""
    schema: str
    """JSON Schema, as JSON text, that answers must obey; empty for none."""


def read_wish(fields: Body, max_tokens: int | None, logprobs: int | None, most: int) -> Wish:
    """The wish in checked fields; `most` is how many answers may be asked for. Raises Problem for contradictions."""
    n = cast(int, fields.get("n", 1))
    if n > most:
        raise invalid(f"n may be at most {most} here", "n")
    options = cast("Mapping[str, object]", fields.get("stream_options", {}))
    stream = fields.get("stream") is True
    if options.get("include_usage") and not stream:
        raise invalid("stream_options needs stream: true", "stream_options")
    stop = fields.get("stop", [])
    return Wish(
        model=cast(str, fields["model"]),
        stream=stream,
        usage=bool(options.get("include_usage")),
        n=n,
        max_tokens=max_tokens,
        sampling=_sampling(fields),
        stop=(stop,) if isinstance(stop, str) else tuple(cast("list[str]", stop)),
        logprobs=logprobs,
        schema=_schema(cast("Mapping[str, object]", fields.get("response_format", {}))),
    )


def chat_limits(fields: Body) -> tuple[int | None, int | None]:
    """Longest answer, and how many likeliest tokens beside each. Raises Problem where the two names of the first
    differ, or where the second is asked for without `logprobs`."""
    old, new = fields.get("max_tokens"), fields.get("max_completion_tokens")
    if old is not None and new is not None and old != new:
        raise invalid("max_tokens and max_completion_tokens are two names of one limit; give one", "max_tokens")
    wanted, top = fields.get("logprobs") is True, cast("int | None", fields.get("top_logprobs"))
    if top and not wanted:
        raise invalid("top_logprobs needs logprobs: true", "top_logprobs")
    return cast("int | None", new if old is None else old), (top or 0) if wanted else None


def _sampling(fields: Body) -> Sampling:
    """With the API's own defaults: temperature 1 and the whole vocabulary."""

    def value(name: str, default: float) -> float:
        return float(cast(float, fields.get(name, default)))

    seed = cast("int | None", fields.get("seed"))
    return Sampling(
        temperature=value("temperature", 1),
        top_p=max(NARROWEST, value("top_p", 1)),
        top_k=max(0, cast(int, fields.get("top_k", 0))),
        min_p=value("min_p", 0),
        seed=None if seed is None else seed % SEEDS,
        presence_penalty=value("presence_penalty", 0),
        frequency_penalty=value("frequency_penalty", 0),
        logit_bias={int(k): float(v) for k, v in cast("dict[str, float]", fields.get("logit_bias", {})).items()},
    )


def _schema(wanted: Mapping[str, object]) -> str:
    kind = wanted.get("type", "text")
    if kind == "text":
        return ""
    if kind == "json_object":
        return '{"type": "object"}'
    if kind != "json_schema":
        raise invalid("response_format.type must be text, json_object or json_schema", "response_format")
    inside = wanted.get("json_schema")
    schema = inside.get("schema") if isinstance(inside, dict) else None
    if not isinstance(schema, dict):
        raise invalid("response_format.json_schema.schema must be an object", "response_format")
    return json.dumps(schema)
