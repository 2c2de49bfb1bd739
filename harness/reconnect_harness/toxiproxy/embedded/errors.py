"""What the API refuses: the status, and the message that the original has for it."""

from __future__ import annotations


class ApiError(Exception):
    """A request is refused, and answered with `status`."""

    status = 500


class BadRequest(ApiError):
    """The body of a request cannot be read, or asks for something that does not exist."""

    status = 400


class NotFound(ApiError):
    """There is no proxy or toxic of this name."""

    status = 404


class Conflict(ApiError):
    """There is a proxy or toxic of this name already."""

    status = 409


class AddressError(ApiError):
    """An address is malformed, cannot be looked up, or cannot be listened on."""
