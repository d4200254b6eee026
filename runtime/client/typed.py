"""What the methods of the typed client stand on: a call by name, its result read as the table's Struct."""

from typing import Any

import msgspec

from runtime.client.wire import Wire

DEFAULT_SECONDS = 60.0
"""Patience with a call: longer than any method's own deadline without a person."""


class Typed:
    """Calls methods over a wire; `fixed` are parameters of every call."""

    def __init__(self, wire: Wire, **fixed: Any) -> None:
        self.wire = wire
        self._fixed = fixed

    async def _ask(self, method: str, patience: float, /, **params: Any) -> Any:
        from runtime.api.methods import BY_NAME  # the whole table, wanted by typed calls alone

        result = await self.wire.call(method, self._fixed | params, seconds=patience)
        return msgspec.convert(result, BY_NAME[method].result)
