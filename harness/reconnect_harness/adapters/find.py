"""Which adapter a scenario or a test means: a name of those that are shipped, or a class of one's own.

adapter: text
adapter: my_tests.chat:ChatAdapter
adapter: {json: {field: body, to: others, rooms: 2}}             # attributes of the adapter
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from reconnect_harness.adapters.adapter import Adapter
from reconnect_harness.history.audience import Audience, To, client_names, rooms_of
from reconnect_harness.values import mapping, one_of

#: The adapters that are shipped, by name.
SHIPPED: Mapping[str, str] = {
    "text": "reconnect_harness.adapters.text:TextAdapter",
    "json": "reconnect_harness.adapters.json_field:JsonAdapter",
    "socketio": "reconnect_harness.adapters.socketio:SocketIoAdapter",
    "graphql-ws": "reconnect_harness.adapters.graphql_ws:GraphQlWsAdapter",
    "stomp": "reconnect_harness.adapters.stomp:StompAdapter",
}

#: The classes that were made, since each client of a load run asks for one.
_classes: dict[str, type[Adapter]] = {}


@dataclass(frozen=True, slots=True)
class AdapterChoice:
    """An adapter as it was asked for: `name` is MODULE:CLASS, `options` are values of its attributes."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: object) -> Self:
        """Return the choice that a scenario or a test means; ValueError says what is wrong with it."""
        if isinstance(given, cls):
            return given
        options: Mapping[str, Any] = {}
        if isinstance(given, dict) and len(given) == 1:
            ((given, options),) = given.items()
        if isinstance(given, type):
            given = f"{given.__module__}:{given.__qualname__}"
        name = given if isinstance(given, str) and ":" in given else SHIPPED[one_of("adapter", given, SHIPPED)]
        choice = cls(name, mapping(options, "of attributes, such as {field: text}"))
        choice.adapter_class()
        return choice

    def adapter_class(self) -> type[Adapter]:
        """Import the class, and return it with its attributes set; ValueError says what is wrong."""
        key = repr((self.name, self.options))
        if key not in _classes:
            _classes[key] = self._import()
        return _classes[key]

    def _import(self) -> type[Adapter]:
        module, _, path = self.name.partition(":")
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
        try:
            found: Any = import_module(module)
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"the adapter {self.name} cannot be imported: {error}") from error
        if not isinstance(found, type) or not issubclass(found, Adapter):
            raise ValueError(f"{self.name} is not a subclass of {Adapter.__module__}.Adapter")  # noqa: TRY004
        known = [name for name in dir(found) if not name.startswith("_") and not callable(getattr(found, name))]
        for name in self.options:
            one_of(f"attribute of {found.__name__}", name, known)
        to = To(one_of("`to`", str(self.options.get("to", found.to)), To))
        return type(found.__name__, (found,), {**self.options, "to": to})

    def for_client(self, client: str, index: int) -> Adapter:
        """Return the adapter of the client of this name, the first of which has the index 1."""
        return self.adapter_class()(client, self.room(index))

    def room(self, index: int) -> str:
        """Return the room of a client: the first one has the index 1."""
        return f"r{(index - 1) % self.adapter_class().rooms + 1}"

    def audience(self, clients: int) -> Audience:
        """Return which of so many clients have to receive a message."""
        kind = self.adapter_class()
        return Audience(kind.to, rooms_of(client_names(clients), kind.rooms) if kind.rooms > 1 else {})

    def to_spec(self) -> dict[str, Any]:
        """Return what `from_spec` reads in another process, which finds the same modules."""
        return {"name": self.name, "options": dict(self.options), "path": sys.path}

    @classmethod
    def from_spec(cls, fields: Mapping[str, Any]) -> Self:
        """Make it from the fields of `to_spec`."""
        sys.path += [folder for folder in fields["path"] if folder not in sys.path]
        return cls(fields["name"], fields["options"])
