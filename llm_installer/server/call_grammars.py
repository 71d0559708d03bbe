"""The grammar of a tool call, as a chat template writes it: JSON between marks, or tags around every argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_installer.data.encoding.call_forms import ARGUMENTS, NAME, CallForm
from llm_installer.server.guides import json_rule, quoted, require_llguidance
from llm_installer.server.tagged_grammars import SHARED, tagged_rules
from llm_installer.server.voices import Voice

Tool = Mapping[str, Mapping[str, object]]


def call_grammar(voice: Voice, form: CallForm, tools: Sequence[Tool], several: bool) -> str:
    """The grammar of a call of one of the tools, or of `several`. Raises Problem without llguidance, and for a call
    that the template has no way to write."""
    require_llguidance("tool_choice")
    from llguidance import LLMatcher

    functions = [tool["function"] for tool in tools]
    if form.tags:
        rules = tagged_rules(voice, form.tags, functions, several)
    else:
        rules = _json_rules(voice, form, functions, several)
    rules.insert(0, f"start: {quoted(voice, form.lead)} calls")
    return str(LLMatcher.grammar_from_lark("\n".join(rules) + "\n"))


def _json_rules(voice: Voice, form: CallForm, functions: Sequence[Mapping[str, object]], several: bool) -> list[str]:
    one = " | ".join(f"call{i}" for i in range(len(functions)))
    again = several and form.mark and form.after.strip()
    rules = ["calls: " + (f'({one}) ("\\n" ({one}))*' if again else one)]
    for i, function in enumerate(functions):
        parameters = function.get("parameters") or {"type": "object"}
        schema = parameters if form.between is not None else _around(form.example, function["name"], parameters)
        named = "" if form.between is None else f"{function['name']}{form.between}"
        rules.append(f"call{i}: {quoted(voice, form.before + named)} json{i} {quoted(voice, form.after)}")
        rules.append(f"json{i}: {json_rule(schema)}")
    return rules


def _around(example: object, name: object, parameters: object) -> object:
    """The schema of a call around that of its arguments, whose references start at the top of all of it."""
    schema = _filled(example, name, parameters)
    if not isinstance(schema, dict) or not isinstance(parameters, dict):
        return schema
    return {**schema, **{key: parameters[key] for key in SHARED if key in parameters}}


def _filled(example: object, name: object, parameters: object) -> object:
    """The schema of a call that looks like the made-up one, but calls `name`."""
    if example == ARGUMENTS:
        return parameters
    if isinstance(example, dict):
        inside = {key: _filled(value, name, parameters) for key, value in example.items()}
        fixed = {"type": "object", "required": [key for key in example if key != "id"], "additionalProperties": False}
        return {**fixed, "properties": inside | ({"id": {"type": "string", "pattern": "^[a-z0-9]{9}$"}})}
    if isinstance(example, list):
        return {"type": "array", "items": _filled(example[0], name, parameters), "minItems": 1}
    return {"const": name if example == NAME else example}
