"""What the mappings of a scenario file are made of: a base without keys that it does not know, and kinds of values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from reconnect_harness import values as given
from reconnect_harness.history.message import MessageKind
from reconnect_harness.peers.workload import MIXED


class Section(BaseModel):
    """A mapping of a scenario file; a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, value: object) -> object:
        keys = [field.alias or name for name, field in cls.model_fields.items()]
        for key in given.mapping(value, f"of {', '.join(keys)}"):
            given.one_of("key", key, keys)
        return value


def known(what: str, names: Iterable[str]) -> BeforeValidator:
    """Return the validator of a value that must be one of `names`; `what` says what kind of thing they are."""
    return BeforeValidator(lambda value: given.one_of(what, value, names))


Rate = Annotated[float, BeforeValidator(given.rate)]
Sizes = Annotated[tuple[int, int], BeforeValidator(given.sizes)]
Seconds = Annotated[float, BeforeValidator(given.seconds)]
Statuses = list[Annotated[int, Field(ge=400, le=599)]]
Codes = list[Annotated[int, AfterValidator(given.close_code)]]
MessageType = Annotated[str, known("type of message", [MIXED, *MessageKind])]
