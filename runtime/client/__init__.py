"""The Python client of the local API: `async with connect(path) as terminal: session = await terminal.open_session()`.

`terminal` and `session` have a method for each of the API's, with the parameters and the result of the table; each
raises RpcError when the daemon refuses and ClientError when it does not answer. `terminal.call` calls by name.
"""

from runtime.client.terminal import Session, Terminal, connect, follow
from runtime.client.wire import LINE_LIMIT_BYTES, NOTIFICATIONS_KEPT, ClientError, Notification, RpcError

__all__ = [
    "LINE_LIMIT_BYTES",
    "NOTIFICATIONS_KEPT",
    "ClientError",
    "Notification",
    "RpcError",
    "Session",
    "Terminal",
    "connect",
    "follow",
]
