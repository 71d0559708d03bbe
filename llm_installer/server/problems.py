"""What a server refuses, in the shape in which OpenAI's clients read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(eq=False)
class Problem(Exception):
    """A request that is not answered, and why. `status` is that of HTTP; the rest is what its JSON says."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    """The field of the request that it is about."""
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, object]:
        """{"error": ...}, as OpenAI writes it."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, code: str | None = None) -> Problem:
    """The request itself is wrong: 400."""
    return Problem(400, message, param=param, code=code)


def too_long(message: str) -> Problem:
    """The prompt, or the answer that is wanted, does not fit: 400."""
    return invalid(message, "messages", "context_length_exceeded")


def unknown_model(name: str, known: list[str]) -> Problem:
    """No model of that name is served: 404."""
    others = f"; there are: {', '.join(known)}" if known else ""
    return Problem(404, f"The model {name!r} is not served here{others}", param="model", code="model_not_found")


def no_key() -> Problem:
    """401."""
    message = "This server wants its API key, as: Authorization: Bearer KEY"
    return Problem(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def busy(seconds: int) -> Problem:
    """429: as many requests wait as may. The client is told when to try again."""
    return Problem(
        429,
        f"As many requests wait as may; try again in {seconds} s",
        "rate_limit_exceeded",
        code="rate_limit_exceeded",
        headers={"Retry-After": str(max(1, seconds))},
    )


def too_large(most: int) -> Problem:
    """413."""
    return Problem(413, f"A request may have {most:,} bytes", code="request_too_large")


def ended(message: str = "The server is shutting down") -> Problem:
    """503: no answer comes any more, for no fault of the request."""
    return Problem(503, message, "server_error", code="unavailable")


def fault(message: str) -> Problem:
    """500: our own mistake."""
    return Problem(500, message, "server_error", code="internal_error")


def encoded(value: object) -> bytes:
    """A value as the bytes of JSON; what UTF-8 cannot hold becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
