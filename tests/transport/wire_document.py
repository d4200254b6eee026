"""The test vectors of docs/wire-format.md, as another implementation made them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transport import sm2
from transport.envelope import Opener, Sealer
from transport.keys import MemoryKey
from transport.wire import Direction

DOCUMENT = (Path(__file__).parents[2] / "docs/wire-format.md").read_text(encoding="utf-8")
TERMINAL = "GT-0001"


def _blocks(kind: str) -> list[dict[str, str]]:
    blocks = re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, re.DOTALL)
    return [dict(re.findall(r"^(\w+) *= (.*)$", block, re.MULTILINE)) for block in blocks]


def _binary(value: Any) -> Any:
    match value:
        case str() if value.startswith("0x"):
            return bytes.fromhex(value[2:])
        case list():
            return [_binary(item) for item in value]
    return value


@dataclass(frozen=True)
class Stated:
    """One message as the document states it."""

    topic: str
    payload: bytes
    contents: list[Any]

    @property
    def direction(self) -> Direction:
        return "up" if self.topic.split("/")[3] == "up" else "down"

    @property
    def stream(self) -> str:
        return self.topic.split("/")[4]

    @property
    def is_sealed(self) -> bool:
        return self.stream not in ("presence", "grant")


KEYS, CALL = ({name: bytes.fromhex(value) for name, value in block.items()} for block in _blocks("vector"))
MESSAGES = [
    Stated(block["topic"], bytes.fromhex(block["payload"]), _binary(json.loads(block["contents"])))
    for block in _blocks("message")
]
SEALED = [message for message in MESSAGES if message.is_sealed]
REQUEST, GRANT, REFUSAL = (message for message in MESSAGES if message.stream == "grant")
_KEY_OF: dict[Direction, tuple[bytes, bytes]] = {
    "up": (KEYS["up_key"], GRANT.contents[2]),
    "down": (KEYS["down_key"], GRANT.contents[3]),
}


def private_key(name: str) -> sm2.PrivateKey:
    """Return `identity`, `platform` or `ephemeral`: PKCS #8 of RFC 5208 around the ECPrivateKey of RFC 5915."""
    head, middle = "308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420", "a144034200"
    return sm2.PrivateKey.from_der(
        bytes.fromhex(head) + KEYS[f"{name}_private"] + bytes.fromhex(middle) + KEYS[f"{name}_point"]
    )


def sealer(direction: Direction = "up", terminal: str = TERMINAL) -> Sealer:
    """Return a sending end of a direction's key."""
    key, key_id = _KEY_OF[direction]
    return Sealer(MemoryKey(bytearray(key)), key_id, terminal, direction)


def opener(direction: Direction = "up", terminal: str = TERMINAL, bound: Direction | None = None) -> Opener:
    """Return a receiving end of a direction's key, for another direction when `bound` says so."""
    key, key_id = _KEY_OF[direction]
    return Opener(MemoryKey(bytearray(key)), key_id, terminal, bound or direction)
