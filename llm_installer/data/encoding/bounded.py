"""A chat template is a program of whoever published the model: it gets a bounded time, and may write a bounded text."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from llm_installer.core.errors import ModelError
from llm_installer.core.reading import is_mistake, reason
from llm_installer.core.text import size

SECONDS = 2.0
"""Of the processor, so that a busy machine takes none of them; a long conversation takes milliseconds."""
LONGEST = 1 << 20
"""Characters that a template may write beside the contents of a conversation, each of which it may repeat."""
_REPEATED = 16
MEMORY = 1 << 29
"""Bytes that it may take while it is at work; read from Linux, and not bounded elsewhere."""


class _TooLong(BaseException):
    """Its time is over. Not an Exception, so that nothing on the way mistakes it for its own."""


def bounded(render: Callable[[], object], given: Callable[[], int]) -> str:
    """What `render` returns, a template at work on a conversation of `given()` characters.

    Raises ModelError where it takes too long or writes too much, and jinja2.TemplateError for whatever else it stumbles
    over. In another thread than the main one its time is not bounded: the system sends signals only there.
    """
    from jinja2 import TemplateError

    try:
        text = str(_guarded(render))
    except _TooLong:
        raise _refused(f"takes longer than {SECONDS:.0f} seconds for one conversation") from None
    except MemoryError:
        raise _refused(f"takes more than {size(MEMORY)} for one conversation") from None
    except (TemplateError, TypeError, KeyError):
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, ValueError) as error:
        if not is_mistake(error) and not isinstance(error, RuntimeError):
            raise
        raise TemplateError(reason(error)) from None
    if len(text) > LONGEST and len(text) > LONGEST + _REPEATED * given():
        raise _refused(f"writes {size(len(text))} for one conversation")
    return text


def _refused(what: str) -> ModelError:
    return ModelError(f"The model's chat template {what}; give the model another one")


def refuse_powers(template: str) -> None:
    """Raise ModelError for a template that raises numbers to a power: a single such step can take hours, and no signal
    ends it. No conversation needs one."""
    from jinja2 import Environment, TemplateSyntaxError

    try:
        powers = any(token.type == "pow" for token in Environment().lexer.tokenize(template))
    except TemplateSyntaxError:  # it is refused where it is rendered
        return
    if powers:
        raise _refused("computes powers of numbers")


def _guarded(render: Callable[[], object]) -> object:
    """What `render` returns, under the limits of time and memory, which are those of the whole process.

    Only in the main thread: signals go nowhere else, and another thread has others beside it that need memory.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return render()
    import resource  # which Windows lacks, as it lacks setitimer

    before, (soft, hard) = signal.signal(signal.SIGVTALRM, _end), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_most(soft, hard), hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        return render()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _end(number: int, frame: FrameType | None) -> None:
    raise _TooLong


def _most(soft: int, hard: int) -> int:
    """What this process may address: MEMORY more than now, and no more than before."""
    import resource

    try:
        descriptor = os.open(
            "/proc/self/statm", os.O_RDONLY
        )  # not a file object: a signal may come before it is closed
    except OSError:
        return soft
    try:
        most = int(os.read(descriptor, 100).split()[0]) * resource.getpagesize() + MEMORY
    finally:
        os.close(descriptor)
    return min(limit for limit in (most, soft, hard) if limit != resource.RLIM_INFINITY)
