"""Finds the handler of a model by its exact model_type: user's folder, then entry points, then the built-in files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.handler import ALL_LINEAR, Handler
from llm_installer.core.home import llm_home
from llm_installer.core.model_info import ModelInfo

ENTRY_POINTS = "llm_installer.handlers"
"""The entry point group in which other packages offer handlers."""

# What running somebody's file can raise when it is mistaken, rather than when Python itself gives up.
_MISTAKES = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
)


def find_handler(info: ModelInfo) -> Handler:
    """The first handler that names this model_type, else the first that names none (the generic one)."""
    known = tuple(_known())
    exact = (handler for handler in known if info.model_type in handler.model_types)
    fallback = next(handler for handler in known if not handler.model_types)
    return next(exact, fallback)


def all_handlers() -> tuple[Handler, ...]:
    """Every handler in order of precedence; `source` says where from, and which earlier one takes a family from it."""
    owner: dict[str, str] = {}
    listed = []
    for handler in _known():
        types = handler.model_types or ("unknown families",)
        lost = [f"shadowed for {name} by {owner[name]}" for name in types if name in owner]
        owner = {**dict.fromkeys(types, handler.source), **owner}
        listed.append(replace(handler, source="; ".join([handler.source, *lost])))
    return tuple(listed)


def check_targets(module_names: Iterable[str], handler_targets: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `module_names` (the model's linear layers) that the targets match, by PEFT's own rule.

    Raises ModelError when a target matches none of them: training fewer layers than were asked for is not a success.
    """
    names = tuple(module_names)
    if handler_targets == ALL_LINEAR and names:
        return names
    hits = {target: [name for name in names if f".{name}".endswith(f".{target}")] for target in handler_targets}
    missing = [target for target, found in hits.items() if not found]
    if missing:
        leaves = ", ".join(sorted({name.rpartition(".")[2] for name in names})) or "none"
        raise ModelError(
            f"No layer of this model is named {' or '.join(missing)}; its linear layers are {leaves}: "
            "choose among them with --target-modules a,b"
        )
    wanted = {name for found in hits.values() for name in found}
    return tuple(name for name in names if name in wanted)


def _known() -> Iterator[Handler]:
    yield from (_from_file(file, str(file)) for file in _files(llm_home() / "handlers"))
    yield from _from_entry_points()
    yield from (_from_file(file, "built-in") for file in _files(_builtin_folder()))


def _builtin_folder() -> Path:
    """The folder of built-in handlers.

    A wheel puts them inside the package; in a checkout, and in an editable install of one, they lie beside it.
    Reading them by path serves all three and is what users' files need anyway; importing llm_installer.handlers
    would need an installation.
    """
    package = Path(__file__).resolve().parents[1]
    inside, beside = package / "handlers", package.parent / "handlers"
    return inside if inside.is_dir() else beside


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))


def _from_file(file: Path, source: str) -> Handler:
    """Run the file and take its HANDLER. Not an import: no cache in the user's folder, no clash of module names."""
    namespace: dict[str, object] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), namespace)
    except _MISTAKES as error:
        raise _broken(str(file), error) from error
    return _checked(namespace.get("HANDLER"), str(file), source)


def _from_entry_points() -> Iterator[Handler]:
    for point in entry_points(group=ENTRY_POINTS):
        package = point.dist.name if point.dist else "?"
        where = f"entry point {point.name} of {package}"
        try:
            found = point.load()
        except _MISTAKES as error:
            raise _broken(where, error) from error
        yield _checked(found, where, where)


def _broken(where: str, error: Exception) -> InstallerError:
    return InstallerError(f"The handler in {where} cannot be read ({type(error).__name__}: {error}); mend or remove it")


def _checked(found: object, where: str, source: str) -> Handler:
    """Dataclasses do not check types, and a forgotten comma, ("llama") for ("llama",), would match letter by letter."""
    if not isinstance(found, Handler):
        raise InstallerError(f"{where} does not set HANDLER = Handler(...); mend or remove it")
    for field, (valid, wanted) in _FIELDS.items():
        value = getattr(found, field)
        if not valid(value):
            raise InstallerError(
                f"The handler in {where} is wrong: {field} must be {wanted}, not {value!r}; mend it there"
            )
    return replace(found, source=source)


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) and item for item in value)


_FLAG: tuple[Callable[[object], bool], str] = (lambda value: isinstance(value, bool), "True or False")
_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "a text such as 'mymodel'"),
    "model_types": (_texts, "a tuple of texts such as ('mymodel',)"),
    "target_modules": (lambda value: _texts(value) and value != (), "a tuple of texts such as ('q_proj', 'v_proj')"),
    "dtype": (lambda value: value in ("float16", "bfloat16", "float32"), "'float16', 'bfloat16' or 'float32'"),
    "max_length": (lambda value: type(value) is int and value > 0, "a positive number such as 4096"),
    "fan_in_fan_out": _FLAG,
    "vision": _FLAG,
    "packing": _FLAG,
    "example": (lambda value: isinstance(value, str), "a text such as 'org/name'"),
}
