"""What the API refuses: status and message, as the original has them."""

from __future__ import annotations

from enum import Enum


class ApiRefusal(Enum):
    """The errors that have a status of their own; all others are 500."""

    BAD_REQUEST_BODY = ("bad request body", 400)
    MISSING_FIELD = ("missing required field", 400)
    PROXY_NOT_FOUND = ("proxy not found", 404)
    PROXY_ALREADY_EXISTS = ("proxy already exists", 409)
    INVALID_STREAM = ("stream was invalid, can be either upstream or downstream", 400)
    INVALID_TOXIC_TYPE = ("invalid toxic type", 400)
    TOXIC_ALREADY_EXISTS = ("toxic already exists", 409)
    TOXIC_NOT_FOUND = ("toxic not found", 404)


class ApiError(Exception):
    """A request is refused, and answered with `status`.

    Args:
        refusal: why.
        detail: more about the reason, where there is more to say.
    """

    def __init__(self, refusal: ApiRefusal, detail: str | None = None) -> None:
        message, self.status = refusal.value
        super().__init__(message if detail is None else f"{message}: {detail}")
