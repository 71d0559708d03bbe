"""What libraries raise over the files of a model folder, as one sentence: such files are somebody else's work."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from llm_installer.core.blame import blamed, words
from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.text import shortened

_MISTAKES = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, NotImplementedError),
    *(OSError, RecursionError, TypeError, ValueError, re.error),
)
_OF_A_FILE = ("pytorchstreamreader", "inline_container", "unexpected eof", "zip archive", "invalid magic")
"""What torch's RuntimeErrors about a damaged .bin file have in them; others are about this machine, as its memory."""
_OF_THE_MACHINE = ("alloc", "memory", "cuda", "cublas", "cudnn", "triton", "compiler", "no kernel image")
"""What those have in them that are not about shapes, in lower case."""
_BY_NAME = ("PanicException", "SafetensorError", "StrictDataclassError", "UnpicklingError")
"""Classes without a common base: of tokenizers, safetensors, huggingface_hub and pickle, which need not be imported."""
_OWN_CODE = "custom code which must be executed"
"""What transformers says where it is not allowed to run the Python files of a folder."""
_LONGEST = 200


def is_mistake(error: BaseException) -> bool:
    """Whether an error can come from files that are not what they should be, rather than from this machine.

    tokenizers raises a bare Exception, which no class but itself can be caught by.
    """
    kinds = type(error).__mro__
    if kinds[0] is RuntimeError:
        return any(part in str(error).lower() for part in _OF_A_FILE)
    return isinstance(error, _MISTAKES) or kinds[0] is Exception or any(k.__name__ in _BY_NAME for k in kinds)


def _of_shapes(error: BaseException) -> bool:
    """Whether torch complains of anything but the machine."""
    return type(error) is RuntimeError and not any(part in str(error).lower() for part in _OF_THE_MACHINE)


def reason(error: BaseException) -> str:
    """What an error says, on one line and short enough for a sentence."""
    text = shortened(words(error), _LONGEST)
    plain = isinstance(error, (OSError, ValueError, re.error)) or type(error) is Exception or _is_sentence(error)
    return (text if plain else f"{type(error).__name__}: {text}") if text else type(error).__name__


def _is_sentence(error: BaseException) -> bool:
    """Whether what a dictionary lacks is said in words, rather than by the key."""
    return isinstance(error, KeyError) and " " in str(error.args[0] if error.args else "")


class reading:  # reads like a verb where it is used: with reading(...)
    """`with reading("The tokenizer in x")`: what a library raises over its files becomes one ModelError.

    Where it is about a field of one of these JSON `files`, that is named. Errors of our own and those of the machine,
    such as too little memory, pass; where so little is computed that only `shapes` can be wrong, torch's others do not.
    """

    def __init__(
        self,
        what: str,
        refuse: Callable[[str], InstallerError] = ModelError,
        files: Sequence[Path] = (),
        library: str = "transformers",
        shapes: bool = False,
    ) -> None:
        self._what = what
        self._refuse = refuse
        self._files = files
        self._library = library
        self._shapes = shapes

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, InstallerError):
            return
        if not is_mistake(error) and not (self._shapes and _of_shapes(error)):
            return
        if _OWN_CODE in str(error):
            raise self._refuse(
                f"{self._what} needs Python code of its own, which is never run here; choose a model that transformers "
                "knows by itself"
            ) from None
        field = blamed(error, self._files, self._library)
        raise self._refuse(field or f"{self._what} cannot be loaded: {reason(error)}") from None
