"""Hostile YAML, TOML and XML: what looks like dates and booleans, anchors, bombs, tags, entities, depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
MERGES = "a0: &a0 {k0: v}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 10)}]\n  k{i}: v\n" for i in range(1, 10)
)
ROWS = "- {prompt: a, completion: b}\n- {prompt: c, completion: d}\n"

CASES: tuple[tuple[str, str, tuple[int, ...] | str], ...] = (
    ("plain.yaml", ROWS, (2, 1, 1, 0, 0)),
    ("no_yes.yaml", "- prompt: Is it?\n  completion: no\n- prompt: Was it?\n  completion: 12:30\n", (2, 1, 1, 0, 0)),
    ("dates.yaml", "- prompt: When?\n  completion: 2024-01-01\n- prompt: 007\n  completion: 1e3\n", (2, 1, 1, 0, 0)),
    (
        "nulls.yaml",
        "- prompt: a\n  completion: ~\n- prompt: a\n  completion:\n- prompt: a\n  completion: b\n",
        (1, 1, 0, 0, 2),
    ),
    ("anchors.yaml", "- &a {prompt: a, completion: b}\n- *a\n- {<<: *a, prompt: c}\n", (3, 1, 1, 1, 0)),
    ("laughs.yaml", LAUGHS, "expand to many times the size"),
    ("merges.yaml", MERGES, "expand to many times the size"),
    ("endless.yaml", "&a [*a]\n", "expand to many times the size"),
    ("endless_map.yaml", "- &a {prompt: x, completion: *a}\n", "not YAML"),
    ("unknown_alias.yaml", "- *nothing\n", "not YAML"),
    ("twice.yaml", "- {prompt: a, prompt: b, completion: c}\n", "is given twice"),
    ("list_key.yaml", "- {? [a] : b}\n", "not YAML"),
    ("map_key.yaml", "- {? {a: b} : c}\n", "not YAML"),
    ("null_key.yaml", "- {~: b}\n", "no known format"),
    ("python.yaml", "- !!python/object/apply:os.system [id]\n", "not YAML"),
    ("tag.yaml", "- !mine {prompt: a}\n", "not YAML"),
    ("tag_int.yaml", "- {prompt: a, completion: !!int b}\n", (1, 1, 0, 0, 0)),
    ("tag_float.yaml", "- {prompt: a, completion: !!float b}\n", (1, 1, 0, 0, 0)),
    ("tag_bool.yaml", "- {prompt: a, completion: !!bool b}\n", "not YAML"),
    ("tag_date.yaml", "- {prompt: a, completion: !!timestamp b}\n", (1, 1, 0, 0, 0)),
    ("tag_far_date.yaml", "- {prompt: a, completion: !!timestamp 2024-13-45}\n", (1, 1, 0, 0, 0)),
    ("tag_binary.yaml", "- {prompt: a, completion: !!binary /w==}\n", "binary data"),
    ("tag_set.yaml", "- {prompt: a, completion: !!set {x, y}}\n", "set where text is expected"),
    ("tag_huge.yaml", "- {prompt: a, completion: !!int 0x" + "f" * 5000 + "}\n", (1, 1, 0, 0, 0)),
    ("documents.yaml", "---\nprompt: a\ncompletion: b\n---\n---\nprompt: c\ncompletion: d\n...\n", (2, 1, 1, 0, 0)),
    ("tabs.yaml", "- prompt: a\n\tcompletion: b\n", "not YAML"),
    ("deep_flow.yaml", "[" * 200_000, "deep"),
    ("deep_block.yaml", "- " * 300_000 + "x\n", "deep"),
    ("control.yaml", "- prompt: a\x07\n", "not YAML"),
    ("half.yaml", '- {prompt: "\\ud800", completion: b}\n', "not YAML"),
    ("scalar.yaml", "just text\n", (1, 1, 0, 0, 0)),
    (
        "wrapper.yaml",
        "train:\n  - {prompt: a, completion: b}\ntest:\n  - {prompt: c, completion: d}\n",
        (2, 1, 1, 0, 0),
    ),
    (
        "rows.toml",
        '[[data]]\nprompt = "a"\ncompletion = 1\n[[data]]\nprompt = "b"\ncompletion = 2024-01-01\n',
        (2, 1, 1, 0, 0),
    ),
    ("nan.toml", '[[data]]\nprompt = "a"\ncompletion = "b"\n[[data]]\nprompt = "b"\nanswer = ""\n', (1, 1, 0, 0, 1)),
    ("long_int.toml", 'prompt = "a"\ncompletion = ' + "9" * 5000 + "\n", "not TOML"),
    ("long_hex.toml", 'prompt = "a"\ncompletion = 0x' + "f" * 5000 + "\n", "a number too long"),
    ("twice.toml", 'prompt = "a"\nprompt = "b"\n', "not TOML"),
    ("half.toml", 'prompt = "\\ud800"\n', "not TOML"),
    ("deep.toml", "a = " + "[" * 200_000, "deep"),
    (
        "dated_tools.toml",
        '[[data]]\nprompt = "a"\nfunctions = []\nfunction_call = {name = "f", arguments = {at = 2024-01-01}}\n',
        (1, 1, 0, 0, 0),
    ),
    (
        "rows.xml",
        "<d><r><prompt>a</prompt><completion>b</completion></r><r prompt='c' completion='d'/></d>",
        (2, 1, 1, 0, 0),
    ),
    (
        "cdata.xml",
        "<d><r><prompt><![CDATA[<a> & b]]></prompt><completion>&lt;b&gt;</completion></r></d>",
        (1, 1, 0, 0, 0),
    ),
    ("laughs.xml", '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><d><r><text>&b;</text></r></d>', "a DOCTYPE"),
    (
        "external.xml",
        '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]><d><r><text>&a;</text></r></d>',
        "a DOCTYPE",
    ),
    ("entity.xml", "<d><r><text>&nbsp;</text></r></d>", "not XML"),
    ("ampersand.xml", "<d><r><text>a & b</text></r></d>", "&amp;"),
    ("half.xml", "<d><r><text>&#xD800;</text></r></d>", "not XML"),
    ("nul_entity.xml", "<d><r><text>&#0;</text></r></d>", "not XML"),
    ("deep.xml", "<a>" * 20_000, "nested deeper"),
    ("cut.xml", "<d><r><prompt>a</prompt>", "not XML"),
    ("two_roots.xml", "<d/><d/>", "not XML"),
    ("no_rows.xml", "<d/>", "holds no records"),
    ("empty_row.xml", "<d><r/></d>", "the record has no keys"),
    ("loose.xml", "<d>hello<r><text>a</text></r></d>", "is between fields"),
    ("twice.xml", "<d><r><prompt>a</prompt><prompt>b</prompt></r></d>", "is given twice"),
    ("attribute.xml", "<d><r><prompt lang='en'>a</prompt></r></d>", "which would be lost"),
    (
        "declared.xml",
        '<?xml version="1.0" encoding="ISO-8859-1"?><d><r><text>caf\u00e9</text></r></d>',
        (1, 1, 0, 0, 0),
    ),
)


@pytest.mark.parametrize(("name", "content", "expected"), CASES, ids=[name for name, _, _ in CASES])
def test_markup(
    name: str, content: str, expected: tuple[int, ...] | str, here: Path, judge: Callable[..., None]
) -> None:
    (here / name).write_text(content, encoding="utf-8", newline="")
    judge(expected, name)
