"""Documents say what is so: tables equal the code, commands exist, every flag is real, every link leads somewhere.

REWRITE=1 pytest tests/test_docs.py writes the generated tables again.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from llm_installer.cli.main import cli
from llm_installer.export.engines import engines_table
from llm_installer.planning.controller import RULES
from llm_installer.planning.modes import MODES, modes_table
from llm_installer.planning.names import names_table
from llm_installer.planning.options import options_table
from llm_installer.planning.stopping import stop_table

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
FOLDERS = ("guides", "reference", "concepts", "decisions")
HELP = ROOT / "llm_installer" / "cli" / "help"
TOPICS = (
    "data", "eval", "export", "gpu", "memory", "methods", "models", "modes", "program", "resuming", "serve", "sharing",
    "studio",
)  # fmt: skip
SCRIPTS = {"train.sh": "train", "start.sh": "start"}
OTHERS_DATA = (DOCS / "guides" / "data.md").read_text(encoding="utf-8").partition("<!-- real files -->")[2]
"""Names of files of other projects, which are not ours to have."""
AVOIDED = re.compile(r"\b(?:anew|gone on with|parted|put off|rehears\w*|held[- ]out|known by heart|yardstick)\b", re.I)
"""Words that the glossary in CONTRIBUTING.md replaces; in code only the first four, as grep finds them."""
AVOIDED_IN_CODE = re.compile(r"anew|gone on with|parted|\bput off\b")

TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "options": ("options.md", options_table),
    "other names": ("other-names.md", names_table),
    "modes": ("modes.md", modes_table),
    "stop rules": ("modes.md", stop_table),
    "engines": ("../guides/sharing.md", engines_table),
}


def shown(file: Path) -> str:
    return str(file.relative_to(ROOT))


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without code blocks, code and generated tables."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.S | re.M)
    text = re.sub(r"<!-- ([\w ]+) -->.*?<!-- end of \1 -->", "", text, flags=re.S)
    return re.sub(r"`[^`\n]*`", "", text)


@pytest.mark.parametrize("name", TABLES)
def test_a_generated_table_is_what_the_code_says(name: str) -> None:
    page, table = DOCS / "reference" / TABLES[name][0], TABLES[name][1]()
    before, begin, rest = read(page).partition(f"<!-- {name} -->\n")
    found, end, after = rest.partition(f"\n<!-- end of {name} -->")
    assert begin and end, f"{shown(page)} has no place for the table of {name}"
    if os.environ.get("REWRITE"):
        page.write_text(before + begin + table + end + after, encoding="utf-8")
    else:
        assert found == table, "run REWRITE=1 pytest tests/test_docs.py and read the difference"


@pytest.mark.parametrize(("page", "names"), [("guides/modes.md", [*MODES]), ("concepts/adaptive.md", [*RULES])])
def test_every_mode_and_every_rule_of_the_controller_is_explained(page: str, names: list[str]) -> None:
    assert [name for name in names if f"**{name}**" not in read(DOCS / page)] == []


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", read(page), flags=re.S | re.M), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", read(page), flags=re.S | re.M)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_every_page_can_be_reached_from_the_index() -> None:
    seen, waiting = set[Path](), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md" and page.is_file():
            seen.add(page)
            waiting += [(page.parent / name).resolve() for name in re.findall(r"\]\(([^)\s#]+)", read(page))]
    assert [shown(page) for page in PAGES if page not in seen] == []
    listed = {shown(page) for page in DOCS.rglob("*.md") if page.parent.name == "decisions"}
    assert all(Path(page).name in read(DOCS / "decisions" / "index.md") for page in listed if "index" not in page)


def test_there_are_no_other_folders_of_documents() -> None:
    assert {path.name for path in DOCS.iterdir()} == {*FOLDERS, "index.md", "choices.md"}


TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
FOLDERS_OF_OURS = "llm_installer|docs|tests|tools|handlers|templates|examples|benchmarks"
OURS = re.compile(rf"(?<![\w/.~])(?:{FOLDERS_OF_OURS})(?:/[\w.-]+)*/[\w-]+\.\w+")


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_no_page_names_a_file_that_does_not_exist(page: Path) -> None:
    """What a program printed once is not looked at: that is a block of text or console."""
    text = re.sub(r"^```(?:text|console)\n.*?^```$", "", read(page).replace(OTHERS_DATA, ""), flags=re.S | re.M)
    assert [name for name in sorted(set(OURS.findall(text))) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("room", ["llm_installer", "tests", "benchmarks", "tools", "handlers", "templates"])
def test_no_code_names_a_page_that_does_not_exist(room: str) -> None:
    missing = [
        f"{shown(file)}: {name}"
        for file in sorted((ROOT / room).rglob("*.py"))
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", read(file))
        if not (ROOT / name).exists()
    ]
    assert missing == []


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command line in an unlabelled code block of the documents."""
    found = []
    for page in PAGES:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", read(page), flags=re.S | re.M)
        lines = "".join(text for label, text in blocks if not label).splitlines()
        found += [(shown(page), words) for line in lines if (words := command_words(line))]
    for file in sorted(HELP.glob("*.md")):
        found += [(shown(file), words) for line in read(file).splitlines() if (words := command_words(line))]
    assert len(found) > 20
    return found


def command_words(line: str) -> list[str]:
    """The words of a line that is a command of ours; a note after it begins with # or stands apart."""
    text = re.split(r"\s{2,}", line.strip())[0]
    return shlex.split(text) if re.match(r"(\./|\S*/)?(llm-installer|train\.sh|start\.sh)\s", text + " ") else []


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda v: v if isinstance(v, str) else " ".join(v)[:60])
def test_documented_commands_and_flags_exist(page: str, words: list[str]) -> None:
    name = words[0].rsplit("/", 1)[-1]
    words = [SCRIPTS[name], *words[1:]] if name in SCRIPTS else words[1:]
    if not words or words[0].startswith("-"):
        return
    command: click.Command = cli.commands[words[0]]
    if isinstance(command, click.Group):  # such as `adapters [MODEL] compare`
        command = next((command.commands[w] for w in words[1:] if w in command.commands), command)
    assert {w for w in words[1:] if w.startswith("-")} <= flags(command) | {"--help", "-h"}, page


@pytest.mark.parametrize("page", [*PAGES, *sorted(HELP.glob("*.md"))], ids=shown)
def test_the_program_is_called_by_its_name(page: Path) -> None:
    """But where the README and the page about the program say what to type before it is on PATH."""
    explained = {"README.md": 2, "docs/guides/program.md": 3}.get(shown(page), 0)
    assert read(page).count("./llm-installer") == explained


def flags(command: click.Command) -> set[str]:
    return {o for p in command.params if isinstance(p, click.Option) for o in (*p.opts, *p.secondary_opts)}


_OTHERS = """out rows rounds trl trl-processes tools device shape command first-step path nproc-per-node own-model seeds
    max-lora-rank work files"""
OTHERS_FLAGS = {f"--{name}" for name in _OTHERS.split()}
"""Of programs that are not llm-installer: tools, benchmarks and torchrun."""


@pytest.mark.parametrize("file", [*PAGES, *sorted(HELP.glob("*.md"))], ids=shown)
def test_every_flag_in_the_text_exists(file: Path) -> None:
    groups = [c for c in cli.commands.values() if isinstance(c, click.Group)]
    every = [cli, *cli.commands.values(), *(c for group in groups for c in group.commands.values())]
    known = {flag for command in every for flag in flags(command)} | {"--help"}
    text = re.sub(r"<!--.*?-->", "", read(file).replace(OTHERS_DATA, ""))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]", text))
    assert sorted(named - known - OTHERS_FLAGS) == []


@pytest.mark.parametrize("topic", TOPICS)
def test_a_help_topic_fits_a_terminal(topic: str) -> None:
    lines = read(HELP / f"{topic}.md").splitlines()
    assert 15 <= len(lines) <= 30
    assert max(map(len, lines)) <= 78
    assert all(line.isascii() for line in lines)


def test_there_are_no_other_topics() -> None:
    assert {file.stem for file in HELP.iterdir()} == set(TOPICS)


def test_the_readme_names_every_room() -> None:
    rooms = [p.name for p in (ROOT / "llm_installer").iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    folders = {name.partition("/")[0] for name in TRACKED if "/" in name and not name.startswith(".")}
    tree = read(ROOT / "README.md").partition("## The tree")[2]
    assert [room for room in [*rooms, *sorted(folders)] if f"{room}/" not in tree] == []


def test_every_command_is_in_the_readme() -> None:
    text = read(ROOT / "README.md")
    assert [n for n in cli.commands if f"`{n}" not in text and f"llm-installer {n}" not in text] == []


@pytest.mark.parametrize("page", sorted({*PAGES} - {ROOT / "CONTRIBUTING.md"}), ids=shown)
def test_documents_use_the_words_of_the_glossary(page: Path) -> None:
    """What a program prints is quoted as it prints it, so code blocks do not count."""
    assert [match[0] for match in AVOIDED.finditer(prose(page))] == []


def test_the_package_uses_the_words_of_the_glossary() -> None:
    found = [
        f"{shown(file)}:{number}: {line.strip()}"
        for file in sorted((ROOT / "llm_installer").rglob("*.py"))
        for number, line in enumerate(read(file).splitlines(), 1)
        if AVOIDED_IN_CODE.search(line)
    ]
    assert found == [], "\n".join(["use the words of the glossary in CONTRIBUTING.md:", *found])
