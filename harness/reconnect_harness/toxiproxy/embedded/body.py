"""Request bodies: the JSON value in one, and its fields.

What the original accepts is accepted: the first value of the body counts and what follows it does not; names of fields
match in any case; unknown fields and nulls are ignored. The text of an error differs from the original's; its status
and the form of the answer do not.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from reconnect_harness.toxiproxy.embedded.errors import BadRequest
from reconnect_harness.values import first_problem

T = TypeVar("T")

WholeNumber = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]


def _shown(toxicity: float) -> float:
    """Return a toxicity as the original shows it, which keeps it as a number of 32 bits."""
    return int(toxicity) if toxicity.is_integer() else float(f"{toxicity:.8g}")


class ProxyBody(BaseModel, strict=True):
    """The fields of a proxy that a request may set."""

    name: str = ""
    listen: str = ""
    upstream: str = ""
    enabled: bool = True

    def check(self, where: str = "") -> None:
        """Raise BadRequest if a field is missing in a request for a new proxy."""
        for name in ("name", "upstream"):
            if not getattr(self, name):
                raise BadRequest(f"missing required field: {name}{where}")


class ToxicChange(BaseModel, strict=True):
    """The fields of a toxic that can be changed. The attributes are not checked: see `whole_numbers`."""

    toxicity: Annotated[float, Field(allow_inf_nan=False), AfterValidator(_shown)] = 1
    attributes: dict[str, Any] = Field(default_factory=dict)


class ToxicBody(ToxicChange):
    """The fields of a new toxic."""

    name: str = ""
    type: str = ""
    stream: str = "downstream"


def read(body: bytes, kind: type[T]) -> T:
    """Return the first JSON value in `body` as a model or a list of models, an empty one for null.

    Raises BadRequest if it is not JSON, or a field has another type.
    """
    try:
        value, _ = _DECODER.raw_decode(body.decode(errors="replace").lstrip())
    except (ValueError, RecursionError) as mistake:
        raise BadRequest(f"bad request body: it is not JSON: {mistake}") from None
    return kind() if value is None else _checked(value, kind)


def whole_numbers(given: dict[str, Any], before: dict[str, int]) -> dict[str, int]:
    """Return the attributes of a toxic, which had those `before`; raises BadRequest for one of another type."""
    return _checked({name: given.get(name, value) for name, value in before.items()}, dict[str, WholeNumber])


def _checked(value: object, kind: type[T]) -> T:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as mistake:
        path, problem = first_problem(mistake)
        raise BadRequest(f"bad request body: {path or 'it'}: {problem}") from None


_DECODER = json.JSONDecoder(
    object_pairs_hook=lambda pairs: {name.lower(): value for name, value in pairs if value is not None},
)
