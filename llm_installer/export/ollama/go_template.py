"""The part of Go's text templates that is written here, and how it is carried out.

Text, strings, variables, range over messages, if with eq, ne, and, not, and the role and content of a message. Ollama's
rules for messages come first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llm_installer.core.errors import ModelError

_ACTION = re.compile(r'\{\{(- )?\s*((?:"(?:[^"\\]|\\.)*"|[^"])*?)\s*( -)?\}\}', re.S)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()"]+')
_SPACE = " \t\r\n"
_NAMED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_ESCAPE = re.compile(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|\\.")


@dataclass
class _Block:
    """Parts up to an end or an else."""

    parts: list[str | _Node] = field(default_factory=list)


@dataclass
class _Node:
    """An action, with what is inside of it."""

    words: list[str]
    inside: _Block = field(default_factory=_Block)
    otherwise: _Block = field(default_factory=_Block)


def literal(text: str) -> str:
    """A text as it stands in a template."""
    plain = all(c.isprintable() or c == "\n" for c in text)  # of others a Modelfile keeps nothing
    if plain and "{{" not in text and not text.endswith("{"):
        return text
    return f'{{{{ "{"".join(map(_escaped, text))}" }}}}'


def _escaped(character: str) -> str:
    """As it stands in a string of Go's."""
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    return character if character.isprintable() else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _text_of(string: str) -> str:
    """What a string of Go's says."""
    named = {escape: character for character, escape in _NAMED.items()}
    return _ESCAPE.sub(lambda m: named.get(m[0]) or chr(int(m[0][2:], 16)), string[1:-1])


def collated(messages: Sequence[Mapping[str, object]]) -> list[dict[str, str]]:
    """Messages as Ollama hands them to a template: neighbours of the same role are one."""
    found: list[dict[str, str]] = []
    for each in messages:
        role, content = str(each["role"]), str(each["content"])
        if found and found[-1]["Role"] == role:
            found[-1]["Content"] += f"\n\n{content}"
        else:
            found.append({"Role": role, "Content": content})
    return found


def render(template: str, messages: Sequence[Mapping[str, object]]) -> str:
    """What Ollama makes of a conversation. Raises ModelError for what is not in the part of the language."""
    parts = list(_lexed(template))
    block = _parsed(parts, template)
    if parts:
        raise ModelError(f"The template {template!r} has an end too many")
    return "".join(_run(block, {"": {"Messages": collated(messages)}}))


def _lexed(template: str) -> Iterator[str | list[str]]:
    """Texts, and the words of actions; {{- and -}} leave out the space beside them."""
    at, cut = 0, False
    for match in _ACTION.finditer(template):
        text = template[at : match.start()]
        text = text.lstrip(_SPACE) if cut else text
        yield text.rstrip(_SPACE) if match[1] else text
        yield _TOKEN.findall(match[2])
        at, cut = match.end(), bool(match[3])
    yield template[at:].lstrip(_SPACE) if cut else template[at:]


def _parsed(parts: list[str | list[str]], template: str, inside: bool = False) -> _Block:
    """The next block; what ends it is the first of the parts then."""
    block = _Block()
    while parts:
        part = parts[0]
        if isinstance(part, list) and part[:1] in (["end"], ["else"]):
            if not inside:
                raise ModelError(f"The template {template!r} has an end too many")
            return block
        parts.pop(0)
        if isinstance(part, str):
            block.parts.append(part)
        else:
            block.parts.append(_node(part, parts, template))
    if inside:
        raise ModelError(f"The template {template!r} lacks an end")
    return block


def _node(words: list[str], parts: list[str | list[str]], template: str) -> _Node:
    node = _Node(words)
    if words[:1] not in (["if"], ["range"]):
        return node
    node.inside = _parsed(parts, template, inside=True)
    stop = parts.pop(0)
    if stop == ["end"]:
        return node
    if len(stop) > 1:  # else if
        node.otherwise.parts.append(_node(list(stop[1:]), parts, template))
    else:
        node.otherwise = _parsed(parts, template, inside=True)
        parts.pop(0)
    return node


def _run(block: _Block, known: dict[str, object]) -> Iterator[str]:
    for part in block.parts:
        if isinstance(part, str):
            yield part
        elif part.words[1:2] in (["="], [":="]):
            known[part.words[0]] = _of(part.words[2:], known)
        elif part.words[0] == "range":
            yield from _each(part, known)
        elif part.words[0] == "if":
            yield from _run(part.inside if _of(part.words[1:], known) else part.otherwise, known)
        else:
            yield str(_of(part.words, known))


def _each(node: _Node, known: dict[str, object]) -> Iterator[str]:
    """range $i, $m := .Messages; what is set inside was declared outside."""
    _, index, element, _, *source = node.words
    items = _of(source, known)
    assert isinstance(items, list), "only messages are written so"
    for number, item in enumerate(items):
        known |= {index.rstrip(","): number, element: item}
        yield from _run(node.inside, known)


def _of(words: list[str], known: Mapping[str, object]) -> object:
    """The value of a call or an operand. Raises ModelError for others than are written here."""
    values, rest = [], list(words)
    function = rest.pop(0) if rest and rest[0] in ("eq", "ne", "and", "not") else ""
    while rest:
        values.append(_operand(rest, known))
    match function, values:
        case "eq", [one, other]:
            return one == other
        case "ne", [one, other]:
            return one != other
        case "and", [one, other]:
            return one and other
        case "not", [one]:
            return not one
        case "", [one]:
            return one
    raise ModelError(f"The template has an action that is not known here: {' '.join(words)}")


def _operand(rest: list[str], known: Mapping[str, object]) -> object:
    word = rest.pop(0)
    if word == "(":
        depth, end = 1, 0
        while depth:
            depth += {"(": 1, ")": -1}.get(rest[end], 0)
            end += 1
        inner, rest[:] = rest[: end - 1], rest[end:]
        return _of(inner, known)
    if word.startswith('"'):
        return _text_of(word)
    if word.isdigit():
        return int(word)
    name, _, attribute = word.partition(".")
    found = known.get(name)
    if attribute and isinstance(found, dict) and attribute in found:
        return found[attribute]
    if attribute or name not in known:
        raise ModelError(f"The template has a name that is not known here: {word}")
    return found
