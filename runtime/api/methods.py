"""The local API: one table of methods, from which the checks, the documentation and OpenRPC are made."""

from runtime.api import (
    hotline_methods,
    lockdown_methods,
    maintenance_methods,
    matters_methods,
    openrpc,
    payment_methods,
    session_methods,
    sharing_methods,
    staff_methods,
    terminal_methods,
)
from runtime.api.shapes import Described, Nothing
from runtime.api.table import Caller, Method, Notice, Terminal


async def _discover(terminal: Terminal, _caller: Caller, _params: Nothing) -> Described:
    return describe(terminal.version)


METHODS: tuple[Method, ...] = (
    Method("rpc.discover", None, Nothing, Described, _discover, "This API as an OpenRPC document."),
    *terminal_methods.METHODS,
    *session_methods.METHODS,
    *matters_methods.METHODS,
    *payment_methods.METHODS,
    *hotline_methods.METHODS,
    *sharing_methods.METHODS,
    *maintenance_methods.METHODS,
    *lockdown_methods.METHODS,
    *staff_methods.METHODS,
)
"""Every method there is."""

NOTICES: tuple[Notice, ...] = (
    *terminal_methods.NOTICES,
    *session_methods.NOTICES,
    *matters_methods.NOTICES,
    *payment_methods.NOTICES,
    *hotline_methods.NOTICES,
    *sharing_methods.NOTICES,
)
"""Every notification there is."""

BY_NAME = {method.name: method for method in METHODS}


def describe(software: str) -> Described:
    """Return the OpenRPC document of the table, served by this software."""
    return openrpc.describe(METHODS, NOTICES, software)
