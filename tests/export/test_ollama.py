"""What Ollama gets: a Modelfile that is read as it was meant, and a Go template only where it is proven."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm_installer.core.errors import ModelError
from llm_installer.export.gguf.probes import CONVERSATIONS
from llm_installer.export.ollama.derive import derived
from llm_installer.export.ollama.go_template import collated, literal, render
from llm_installer.export.ollama.modelfile import Line, read, sayable, written

Turns = Sequence[Mapping[str, object]]
TEXTS = st.text(
    st.sampled_from(list("ab\"'\n\r\t #{}\\\u00a0\u200d\u00e9<|>")) | st.characters(codec="utf-8"), max_size=20
)


@settings(max_examples=120, deadline=None)
@given(TEXTS)
@example('"')
@example('"""')
@example('say """\nand more')
@example('a "quoted" word')
@example('ends with "')
@example("\n\nUser:")
@example(" ")
@example("")
def test_what_is_written_is_read_as_it_was_or_is_refused(value: str) -> None:
    lines = [Line("FROM", "./a b.gguf"), Line("PARAMETER", value, "stop"), Line("SYSTEM", value), Line("LICENSE", "x")]
    if sayable(lines[1]):
        assert sayable(lines[2]) and list(read(written(lines))) == lines
    else:
        with pytest.raises(ModelError, match="No Modelfile can say the PARAMETER"):
            written(lines)
        unprintable = any(not c.isprintable() and c not in "\t\r\n" for c in value)
        ends_a_line = any(line.strip().endswith('"') for line in re.split(r"[\r\n]", value))
        assert unprintable or ends_a_line


def test_the_rules_of_its_reader() -> None:
    """By hand, from the rules of Ollama's own."""
    text = """# a comment
from ./x.gguf
PARAMETER stop "<|im_end|>"
  parameter num_ctx   4096
SYSTEM \"\"\"
two
lines \"quoted\"
\"\"\"
TEMPLATE "one
two"
LICENSE it's "so" """
    assert list(read(text)) == [
        Line("FROM", "./x.gguf"),
        Line("PARAMETER", "<|im_end|>", "stop"),
        Line("PARAMETER", "4096", "num_ctx"),
        Line("SYSTEM", '\ntwo\nlines "quoted"\n'),
        Line("TEMPLATE", "one\ntwo"),
        Line("LICENSE", 'it\'s "so"'),
    ]
    for wrong in ("TEMPLATES x", 'FROM "x'):
        with pytest.raises(ModelError):
            list(read(wrong))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("a{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}={{ $m.Content }};{{ end }}b", "a0system=s;1user=u;b"),
        ("{{ range $i, $m := .Messages }} {{- if eq $i 0 }} x {{- else }}y{{ end }}{{ end -}}  z", " xyz"),
        ('{{ if eq "a" "b" }}1{{ else if ne "a" "b" }}2{{ else }}3{{ end }}', "2"),
        ('{{ if and (eq 1 1) (not (eq 1 2)) }}{{ "\\u003c{{" }}{{ end }}', "<{{"),
        ('{{ $l := "" }}{{ range $i, $m := .Messages }}{{ $l }}|{{ $l = $m.Role }}{{ end }}{{ $l }}', "|system|user"),
    ],
)
def test_the_rules_of_go_templates(template: str, said: str) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert render(template, turns) == said


def test_a_template_that_is_no_template_is_an_error() -> None:
    for wrong in ("{{ end }}", "{{ if eq 1 1 }}", "{{ .System }}", "{{ printf 1 }}"):
        with pytest.raises(ModelError):
            render(wrong, [])


def test_neighbours_of_one_role_are_one_turn() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]
    assert [each["Content"] for each in collated(turns)] == ["a\n\nb", "c"]


@given(st.text(st.sampled_from(list('{}"\\ \n<|a\u00e9\U0001f600')), max_size=9), st.text(max_size=9))
def test_any_text_can_stand_in_a_template(text: str, other: str) -> None:
    turns = [{"role": "user", "content": other}]
    go = "{{ range $i, $m := .Messages }}" + literal(text) + "{{ $m.Content }}{{ end }}"
    assert render(go, turns) == text + other


@cache
def jinja(source: str) -> Callable[[Turns], str]:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = lambda why: 1 / 0
    template = environment.from_string(source)
    return lambda turns: template.render(messages=turns, add_generation_prompt=True, eos_token="</s>")


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
DEFAULT = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nBe {{kind}}.<|im_end|>\\n' }}{% endif %}" + CHATML
)
HASHES = (
    "{% for m in messages %}{{ '### ' + m.role | capitalize + ':\\n' + m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}{{ '\\n\\n' }}{% endfor %}{{ '### Assistant:\\n' }}"
)
FIRST = "{% for m in messages %}{{ '[first]' if loop.first else '[next]' }}{{ m.role }}: {{ m.content }}|{% endfor %}>"


@pytest.mark.parametrize("source", [CHATML, DEFAULT, HASHES, FIRST])
def test_a_go_template_is_found(source: str) -> None:
    own = jinja(source)
    found, why = derived(own)
    assert found and not why
    assert [render(found, turns) for turns in CONVERSATIONS] == [own(turns) for turns in CONVERSATIONS]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([CHATML, DEFAULT, HASHES, FIRST]),
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=12)), min_size=1, max_size=7),
)
def test_what_was_derived_renders_any_conversation(source: str, turns: list[tuple[str, str]]) -> None:
    together = collated([{"role": role, "content": content} for role, content in turns])
    as_jinja = [{"role": each["Role"], "content": each["Content"]} for each in together]
    assert render(go_of(source), as_jinja) == jinja(source)(as_jinja)


@cache
def go_of(source: str) -> str:
    return derived(jinja(source))[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s.replace("m.content", "m.content | trim"), "differently"),
        (lambda s: s.replace("m.content", "m.content.split('</think>')[-1]"), "differently"),
        (lambda s: s.replace("{% for", "{{ messages | length }}{% for"), "differently"),
        (lambda s: "{% if messages[0].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}" + s, "refuses"),
        (lambda s: s.replace("m.role +", "m.role + (loop.index | string if loop.index > 3 else '') +"), "differently"),
        (lambda s: s.replace("m.content", "'' if m.role == 'system' else m.content"), "does more"),
    ],
)
def test_no_template_where_it_would_render_something_else(change: Callable[[str], str], why: str) -> None:
    own = jinja(change(CHATML))

    def rendered(turns: Turns) -> str:
        try:
            return own(turns)
        except ZeroDivisionError:
            raise ValueError from None

    found, said = derived(rendered)
    assert not found and why in said
