"""What an evaluation leaves in its folder: eval.json, report.md, rows.jsonl and eval.png."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from llm_installer.core.files import finite, write_json, write_text
from llm_installer.core.text import visible
from llm_installer.core.version import __version__
from llm_installer.evals.items import Item
from llm_installer.evals.picture import draw
from llm_installer.evals.report import report
from llm_installer.evals.result import EvalResult
from llm_installer.evals.system import Passed

JSON, REPORT, ROWS, PICTURE = "eval.json", "report.md", "rows.jsonl", "eval.png"


def write(found: EvalResult, passes: Sequence[Passed], items: Sequence[Item]) -> EvalResult:
    """Write the files of a result into its folder, eval.json last, so that a folder with it is complete.

    Raises DiskError.
    """
    folder = found.folder
    if items:
        lines = (visible(json.dumps(finite(line), ensure_ascii=False)) for line in _rows(passes, items))
        write_text(folder / ROWS, "".join(f"{line}\n" for line in lines))
    drawn = draw(found, folder / PICTURE)
    write_text(folder / REPORT, report(found, PICTURE if drawn else ""))
    write_json(folder / JSON, as_object(found))
    return found


def as_object(found: EvalResult) -> dict[str, object]:
    """The result as plain values."""
    held = asdict(found)
    del held["folder"]
    for one, difference in zip(held["differences"], found.differences, strict=True):
        one |= {"verdict": difference.verdict, "said": str(difference)}
    return {"version": __version__, **held}


def _rows(passes: Sequence[Passed], items: Sequence[Item]) -> Iterator[dict[str, object]]:
    """Each row with what every system made of it."""
    places = [{at: n for n, at in enumerate(one.answered)} for one in passes]
    ranks = [{at: n for n, at in enumerate(one.ranked)} for one in passes]
    for number, item in enumerate(items):
        systems: dict[str, object] = {}
        for one, answered, ranked in zip(passes, places, ranks, strict=True):
            held: dict[str, object] = {"loss_sum": float(one.losses[number]), "tokens": int(one.tokens[number])}
            if number in answered and (said := one.said.answers[answered[number]]):
                held |= {"answer": said.text, "ended": said.ended}
            if number in ranked:
                held |= {"logprobs": one.ranks[ranked[number]].logprobs, "chosen": one.ranks[ranked[number]].chosen}
            systems[one.name] = held
        found: dict[str, object] = {"origin": str(item.example.origin)}
        found["prompt"] = [{"role": turn.role, "content": turn.content} for turn in item.example.messages[:-1]]
        found["references"] = item.references
        if item.choices:
            found |= {"choices": item.choices, "right": item.right}
        yield {**found, "systems": systems}
