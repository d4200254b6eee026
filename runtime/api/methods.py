"""The local API: one table of methods, from which the checks, the documentation and OpenRPC are made."""

import msgspec

from runtime.api import maintenance_methods, session_methods
from runtime.api.shapes import (
    Described,
    Nothing,
    Subscribed,
    TerminalStatus,
)
from runtime.api.table import Caller, Method, Notice, Terminal
from runtime.state import Change


async def _status(terminal: Terminal, _caller: Caller, _params: Nothing) -> TerminalStatus:
    return TerminalStatus(terminal.version, terminal.boot_id, terminal.rig, terminal.state.full())


async def _subscribe(terminal: Terminal, caller: Caller, _params: Nothing) -> Subscribed:
    subscription = terminal.state.subscribe()
    caller.forward(subscription)
    return Subscribed(subscription.sequence, subscription.state)


async def _discover(terminal: Terminal, _caller: Caller, _params: Nothing) -> Described:
    return describe(terminal.version)


_OWN = (
    Method("terminal.status", None, Nothing, TerminalStatus, _status, "The terminal's version and state."),
    Method(
        "events.subscribe",
        None,
        Nothing,
        Subscribed,
        _subscribe,
        "The whole state, then each change as `events.change`. Subscribing again starts anew.",
    ),
    Method("rpc.discover", None, Nothing, Described, _discover, "This API as an OpenRPC document."),
)
METHODS: tuple[Method, ...] = (
    *_OWN,
    *session_methods.METHODS,
    *maintenance_methods.METHODS,
)
"""Every method there is."""

NOTICES: tuple[Notice, ...] = (
    Notice("events.change", Change, "A component's state changed."),
    Notice("events.lost", Nothing, "This connection was too slow for the changes: subscribe again."),
    *session_methods.NOTICES,
)
"""Every notification there is."""

BY_NAME = {method.name: method for method in METHODS}


def describe(version: str) -> Described:
    """Return the OpenRPC document of the table."""
    kinds = [kind for method in METHODS for kind in (method.params, method.result)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    methods = [
        {
            "name": method.name,
            "description": method.description,
            "paramStructure": "by-name",
            "params": [
                {
                    "name": field.encode_name,
                    "required": field.required,
                    "schema": components[method.params.__name__]["properties"][field.encode_name],
                }
                for field in msgspec.structs.fields(method.params)
            ],
            "result": {"name": method.result.__name__, "schema": schemas[2 * index + 1]},
        }
        for index, method in enumerate(METHODS)
    ]
    return Described(
        openrpc="1.3.2",
        info={"title": "govterm local API", "version": version},
        methods=methods,
        components={"schemas": components},
    )
