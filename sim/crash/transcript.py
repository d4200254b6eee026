"""What passed between a client program and the daemon."""

from typing import Any

import msgspec


class Heard(msgspec.Struct, frozen=True):
    """What the program was told: a method and its result or error code, or a notification."""

    method: str
    result: dict[str, Any]
    code: str | None = None


class Transcript:
    """Reads along what a client program says and hears, and remembers it."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self._asked: dict[int, str] = {}
        self._rest = b""

    def says(self, data: bytes) -> None:
        """Take whole lines that the program sends."""
        for line in data.splitlines():
            request = msgspec.json.decode(line)
            self._asked[request["id"]] = request["method"]

    def hears(self, data: bytes) -> str:
        """Take bytes that the program is given; return the methods of the lines that end in them."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        heard = [self._read(msgspec.json.decode(line)) for line in lines]
        self.heard += heard
        return ", ".join(one.method for one in heard)

    def results(self, method: str) -> list[dict[str, Any]]:
        """Return the results of every answered call of a method, or the parameters of such notifications."""
        return [one.result for one in self.heard if one.method == method and one.code is None]

    def asked(self, method: str) -> int:
        """Return how often the daemon was asked for a method."""
        return sum(1 for asked in self._asked.values() if asked == method)

    def _read(self, message: dict[str, Any]) -> Heard:
        if "method" in message:
            return Heard(message["method"], message["params"])
        method = self._asked[message["id"]]
        if "error" in message:
            return Heard(method, {}, message["error"]["data"]["code"])
        return Heard(method, message["result"])
