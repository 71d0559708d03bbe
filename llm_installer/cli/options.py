"""Settings as options of commands, and a help that shows the ten that matter first and the rest by group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import click

from llm_installer.cli.other_names import own_words, typed_names
from llm_installer.core.errors import UsageError
from llm_installer.planning.options import Options
from llm_installer.planning.settings import ON_OFF, Command, Described, add_click_options, described, flag

FIRST = (
    "data", "mode", "epochs", "learning_rate", "max_seq_length", "method", "lora_r", "output", "show", "dry_run",
    "resume", "status",
)  # fmt: skip
"""What `train --help` shows in full."""
EXAMPLES = (
    ("--data my.json", "train; everything else is chosen"),
    ("--data my.json --show", "see which tokens are trained on"),
    ("--data my.json --dry-run", "see the plan"),
    ("--resume", "resume the newest unfinished run"),
)
"""What is typed behind ./train.sh, and what for."""
HELP, HELP_ALL = ("--help", "-h"), "--help-all"


HYPHEN = "\u2011"
"""One at which click breaks no line."""


class Help(click.HelpFormatter):
    """A help whose lines break between words only: the name of an option stays in one piece."""

    def write_text(self, text: str) -> None:
        """A paragraph, wrapped."""
        super().write_text(text.replace("-", HYPHEN))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Names and what they are, in two columns."""
        super().write_dl([(name, text.replace("-", HYPHEN)) for name, text in rows], col_max, col_spacing)

    def getvalue(self) -> str:
        """The help as it is printed."""
        return super().getvalue().replace(HYPHEN, "-")


click.Context.formatter_class = Help


def click_options(command: Command) -> Command:
    """Give a click command one option for each field of Options."""
    return add_click_options(command, Options)


def some_options(*names: str) -> Callable[[Command], Command]:
    """Give a click command one option for each of these fields of Options."""
    return lambda command: add_click_options(command, Options, names)


class GroupedCommand(click.Command):
    """A command whose --help shows the first options, --help GROUP one group, and --help-all everything."""

    def __init__(self, name: str | None, *, params: Sequence[click.Parameter] = (), **more: object) -> None:
        shown = click.Option(
            [*reversed(HELP), "_help"], is_flag=False, flag_value="", metavar="[GROUP]", expose_value=False,
            is_eager=True, callback=_show_help, help="Show this help, or the options of one group.",
        )  # fmt: skip
        everything = click.Option(
            [HELP_ALL, "_help_all"], is_flag=True, expose_value=False, is_eager=True, callback=_show_all,
            help="Show every option.",
        )  # fmt: skip
        super().__init__(name, params=[*params, shown, everything], add_help_option=False, **more)  # type: ignore[arg-type]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Names that other trainers use are understood, too; a shell that completes a command asks for none."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        try:
            return super().parse_args(ctx, own_words(args))
        except click.BadParameter as error:  # which is about the word that was typed
            if error.param and (typed := typed_names(args).get(str(error.param.name))):
                error.param_hint = f"'{typed}'"
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of a group, of all groups, or the first ones and the names of the groups."""
        shown = ctx.meta.get(HELP_ALL)
        if shown is None:
            self._format_first(formatter)
            return
        for group in groups() if shown == "" else [str(shown)]:
            _write(formatter, group, [_record(one) for one in described(Options) if one.setting.group == group])

    def _format_first(self, formatter: click.HelpFormatter) -> None:
        known = {one.name: one for one in described(Options)}
        _write(formatter, "Examples", [(f"./train.sh {words}", what) for words, what in EXAMPLES])
        _write(formatter, "The options that matter first", [_record(known[name]) for name in FIRST])
        rows = [(f"{HELP[0]} {slug(name)}", ", ".join(_examples(name))) for name in groups()]
        _write(formatter, "All options, by group", [*rows, (HELP_ALL, "Every option.")])


def held_in_bits(command: Command) -> Command:
    """The options --use-4bit and --use-8bit, which a command gets as `quantised`; both at once are refused."""
    eight = click.option(
        "--use-8bit",
        is_flag=True,
        expose_value=False,
        callback=partial(_hold, "int8"),
        help="Hold the base in 8 bits.",
    )
    four = click.option(
        "--use-4bit",
        is_flag=True,
        expose_value=False,
        callback=partial(_hold, "nf4"),
        help="Hold the base in 4 bits, as --method qlora trains on.",
    )
    return four(eight(command))


def _hold(kind: str, ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    other = ctx.params.setdefault("quantised", "")
    if value and other:
        raise UsageError("--use-4bit and --use-8bit contradict each other; give one of them")
    if value:
        ctx.params["quantised"] = kind


def groups() -> list[str]:
    """The groups of settings, in order."""
    return list(dict.fromkeys(one.setting.group for one in described(Options)))


def slug(group: str) -> str:
    """A group as it is typed: its last word."""
    return group.split()[-1].lower()


def find_group(word: str) -> str:
    """The group that a word means: any of its own, or the beginning of one. Raises UsageError for others."""
    word = word.lower().replace("-", " ").strip()
    for group in groups():
        if any(each.startswith(word) for each in (group.lower(), slug(group))):
            return group
    raise UsageError(f"There is no group of options called {word!r}; there are {', '.join(map(slug, groups()))}")


def _show_help(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    if value:
        ctx.meta[HELP_ALL] = find_group(value)
    _exit_with_help(ctx)


def _show_all(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[HELP_ALL] = ""
        _exit_with_help(ctx)


def _exit_with_help(ctx: click.Context) -> None:
    click.echo(ctx.get_help(), color=ctx.color)
    ctx.exit()


def _write(formatter: click.HelpFormatter, title: str, rows: Sequence[tuple[str, str]]) -> None:
    with formatter.section(title):
        formatter.write_dl(rows, col_max=max(len(first) for first, _ in rows))


def _record(one: Described) -> tuple[str, str]:
    """(the option with what it takes, what it does) as a help shows it."""
    spelling, help, choices = flag(one.name), one.setting.help, one.setting.choices
    if one.kind is bool:
        return (f"{spelling}, --no-{spelling[2:]}" if one.switch else spelling), help
    takes = one.setting.metavar or ("NAME" if choices else {int: "N", float: "X"}.get(one.kind, "TEXT"))
    takes = "|".join(ON_OFF) if choices == ON_OFF else takes
    takes = takes if one.bare is None else f"[{takes}]"
    listed = f" One of {', '.join(choices)}." if choices and choices != ON_OFF else ""
    default = "" if one.default is None else f" Default: {one.default}."
    return f"{spelling} {takes}", f"{help}{listed}{default}"


def _examples(group: str) -> list[str]:
    """The names of the group's options that fit into a line."""
    names = [one.name.replace("_", "-") for one in described(Options) if one.setting.group == group]
    shown: list[str] = []
    for name in names:
        if len(", ".join([*shown, name])) > 48:
            return [*shown, "..."]
        shown.append(name)
    return shown
