"""Every setting of a training run, declared once: click flags, Python keywords and the docs table come from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_type_hints

import click

from llm_installer.core.errors import UsageError
from llm_installer.planning.modes import MODES, ORDERS, SYNONYMS
from llm_installer.planning.pairs import parse_pairs

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Setting:
    """How one field of Options appears to the user."""

    help: str
    group: str
    choices: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    """Other keyword names accepted by the Python API."""
    minimum: float | None = None
    maximum: float | None = None
    optional_value: Any = None
    """Value meant when the flag is given bare."""
    metavar: str | None = None


def setting(help: str, group: str, *, default: Any = None, **more: Any) -> Any:
    """Declare one field of Options."""
    return field(default=default, metadata={"setting": Setting(help, group, **more)})


@dataclass(frozen=True)
class Options:
    """What the user asked for. None means: choose for me, and say why."""

    data: str | None = setting(
        "What to learn from: a file, a directory, a glob, or several of these with commas between.", "Data",
        aliases=("data_path",), metavar="PATH",
    )  # fmt: skip
    dataset_format: str | None = setting("Take every record as this format.", "Data", metavar="NAME")
    columns: str | None = setting(
        'Map the columns of a table: prompt=Question,answer="Best Answer".', "Data", metavar="MAP"
    )
    validation_data: str | None = setting(
        "Measure on these examples instead of a share of the training data.", "Data",
        aliases=("eval_data_path",), metavar="PATH",
    )  # fmt: skip
    validation_split: float | None = setting(
        "Share of the prompts held out for measuring.", "Data", minimum=0, maximum=0.9
    )
    max_examples: int | None = setting("Learn from a random sample of this many examples.", "Data", minimum=1)
    mix: str | None = setting(
        "Weights of files in training, a.json=3,b.json=1; others weigh 1; without --data these files are the data.",
        "Data", metavar="MAP",
    )  # fmt: skip
    task_prefix: str | None = setting(
        "Put [NAME] before the first user turn (or the text) of a file's rows: a.json=SUMMARISE,b.json=QA.", "Data",
        metavar="MAP",
    )  # fmt: skip
    chunk_words: int | None = setting(
        "Cut plain text into rows of this many words; a text stays on one side of the split.", "Data", minimum=1
    )
    order: str = setting("How the first epoch goes through the rows.", "Data", default="random", choices=tuple(ORDERS))
    max_seq_length: int | None = setting(
        "Longest row, in tokens; longer ones are cut.", "Data", aliases=("max_seq_len",), minimum=8
    )
    train_on_prompt: bool = setting("Learn the prompts too, not only the answers.", "Data", default=False)
    strict: bool = setting(
        "Refuse data with rows that cannot teach, instead of leaving them out.", "Data", default=False
    )
    show: int | None = setting(
        "Print N rows with learned and masked tokens marked, then end.", "Data", minimum=1, optional_value=3
    )

    mode: str = setting(
        "How to train.", "Training", default="medium", choices=tuple(MODES), synonyms=tuple(SYNONYMS.items())
    )
    epochs: float | None = setting("Passes over the data.", "Training", aliases=("num_epochs",), minimum=0.001)
    learning_rate: float | None = setting("Peak learning rate.", "Training", minimum=0)
    batch_size: int | None = setting(
        "Rows computed at once; chosen from memory.", "Training", aliases=("micro_batch_size",), minimum=1
    )
    effective_batch_size: int | None = setting("Rows per optimizer step.", "Training", minimum=1)
    gradient_accumulation_steps: int | None = setting("Batches per optimizer step.", "Training", minimum=1)
    lora_r: int | None = setting("LoRA rank; chosen from the number of parameters.", "Training", minimum=1)
    lora_alpha: float | None = setting("LoRA alpha; twice the rank.", "Training", minimum=0)
    lora_dropout: float | None = setting("Dropout before the LoRA.", "Training", minimum=0, maximum=0.99)
    target_modules: str | None = setting(
        "Layers that get a LoRA, with commas between, or all-linear.", "Training", metavar="NAMES"
    )
    precision: str | None = setting(
        "Precision of the frozen base model.", "Training", choices=("bfloat16", "float16", "float32")
    )
    seed: int = setting("Seed of everything random.", "Training", default=42, minimum=0)

    patience: int | None = setting("Evaluations without improvement before stopping.", "Stopping", minimum=1)
    overfitting_threshold: float | None = setting(
        "Relative gap between validation and training loss that counts as overfitting.", "Stopping", minimum=0
    )
    min_evaluations: int | None = setting("Evaluations before overfitting can stop the run.", "Stopping", minimum=1)
    force_epochs: bool = setting("Train exactly the given epochs; never stop early.", "Stopping", default=False)

    model_path: str | None = setting("The model directory.", "Output", metavar="DIR")
    output: str | None = setting(
        "Write the adapter here and leave ./lora alone.", "Output", aliases=("ckpt_output_dir",), metavar="DIR"
    )
    dry_run: bool = setting("Print the plan and end.", "Output", default=False)
    skip_test: bool = setting("Skip the comparison of base and tuned answers.", "Output", default=False)
    test_prompt: str | None = setting("Also answer this in the comparison.", "Output", metavar="TEXT")
    tensorboard: bool = setting("Show the run in TensorBoard while it lasts.", "Output", default=True)
    tensorboard_port: int = setting(
        "First port to try for TensorBoard.", "Output", default=6006, minimum=1, maximum=65535
    )
    tensorboard_only: int | None = setting(
        "Only show past runs, on this port.", "Output", minimum=1, maximum=65535, optional_value=6006
    )

    @property
    def sources(self) -> str | None:
        """What to learn from: --data, or else the files that --mix names."""
        return self.data or (",".join(parse_pairs(self.mix, "--mix")) if self.mix else None)

    @classmethod
    def from_kwargs(cls, **given: Any) -> Options:
        """Options from Python keywords or a web form. Raises UsageError for unknown names and values out of range."""
        names = {alias: f.name for f in fields(cls) for alias in settings(f).aliases}
        known = {f.name: f for f in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in given.items():
            name = names.get(key, key)
            if name not in known:
                raise UsageError(f"There is no option {key!r}{_suggest(key, [*known, *names])}")
            values[name] = _checked(known[name], value)
        return cls(**values)


def settings(option: Field[Any]) -> Setting:
    """The declaration behind a field of Options."""
    found: Setting = option.metadata["setting"]
    return found


def flag(name: str) -> str:
    """The command-line spelling of a field."""
    return "--" + name.replace("_", "-")


def click_options(command: Command) -> Command:
    """Give a click command one option for each field of Options."""
    return some_options(*(f.name for f in fields(Options)))(command)


def some_options(*names: str) -> Callable[[Command], Command]:
    """Give a click command one option for each of these fields of Options."""

    def give(command: Command) -> Command:
        for name, declared, kind, default in reversed(list(_described())):
            if name in names:
                spelling = f"{flag(name)}/--no-{name.replace('_', '-')}" if kind is bool and default else flag(name)
                command = click.option(
                    spelling, name, default=default, help=declared.help, **_click_type(declared, kind)
                )(command)
        return command

    return give


def options_table() -> str:
    """The options as Markdown tables, one per group, for docs/training.md."""
    groups: dict[str, list[str]] = {}
    for name, declared, kind, default in _described():
        shown = "chosen" if default is None else {True: "on", False: "off"}.get(default, default)
        value = "" if kind is bool else f" {declared.metavar or ' or '.join(declared.choices) or kind.__name__.upper()}"
        groups.setdefault(declared.group, []).append(f"| `{flag(name)}{value}` | {declared.help} | {shown} |")
    head = "| option | meaning | default |\n|---|---|---|"
    return "\n\n".join(f"### {group}\n\n{head}\n" + "\n".join(rows) for group, rows in groups.items())


def _described() -> Iterator[tuple[str, Setting, type, Any]]:
    hints = get_type_hints(Options)
    for f in fields(Options):
        kind = next((t for t in get_args(hints[f.name]) if t is not type(None)), hints[f.name])
        yield f.name, settings(f), kind, f.default


class _Choice(click.Choice[str]):
    """A click choice that also accepts the old names of its values."""

    def __init__(self, choices: tuple[str, ...], synonyms: tuple[tuple[str, str], ...]) -> None:
        super().__init__(choices)
        self.synonyms = dict(synonyms)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(super().convert(self.synonyms.get(value, value), param, ctx))


def _click_type(declared: Setting, kind: type) -> dict[str, Any]:
    if kind is bool:
        return {"is_flag": True}
    more: dict[str, Any] = {"metavar": declared.metavar}
    if declared.choices:
        more["type"] = _Choice(declared.choices, declared.synonyms)
    elif declared.minimum is not None:
        bounds: Any = click.IntRange if kind is int else click.FloatRange
        more["type"] = bounds(declared.minimum, declared.maximum)
    else:
        more["type"] = kind
    if declared.optional_value is not None:
        more |= {"is_flag": False, "flag_value": declared.optional_value}
    return more


def _checked(option: Field[Any], value: Any) -> Any:
    """`value` as the command line would have read it; UsageError with the same words when it would not."""
    _, declared, kind, _ = next(d for d in _described() if d[0] == option.name)
    if value is None or (kind is bool and isinstance(value, bool)):
        return value
    parameter = click.Option([flag(option.name)], **_click_type(declared, kind))
    try:
        return parameter.type.convert(value, parameter, None)
    except click.UsageError as error:
        raise UsageError(f"{option.name}={value!r}: {error.message}") from None


def _suggest(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
