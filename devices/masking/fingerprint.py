"""Recording the fingerprint sensor: features and pictures become a pattern, passwords zeros."""

from devices.fingerprint.protocol import PACKET_OVERHEAD, Command, Packet, PacketDecoder, Pid, encode_packet
from devices.masking.pieces import FrameCutter, Piece

_HEAD = PACKET_OVERHEAD - 2
_HARMLESS_COMMANDS = frozenset(Command) - {Command.VERIFY_PASSWORD}
_HARMLESS_ANSWERS = {1, 3, 17}
"""Payloads of a code, a code with a score, a code with the parameters."""
_PATTERN = bytes(range(256))


class FingerprintMask:
    """The mask of kind `fingerprint`."""

    def __init__(self) -> None:
        self.to_device = FrameCutter(PacketDecoder(), _piece)
        self.to_host = FrameCutter(PacketDecoder(), _piece)


def _piece(packet: Packet) -> Piece:
    payload, head = bytes(packet.payload), _HEAD + 1
    if packet.pid in {Pid.DATA, Pid.LAST}:
        payload, head = _PATTERN[: len(payload)], _HEAD
    elif not (packet.code in _HARMLESS_COMMANDS if packet.pid == Pid.COMMAND else len(payload) in _HARMLESS_ANSWERS):
        payload = payload[:1].ljust(len(payload), b"\0")
    return Piece(encode_packet(packet.pid, payload, packet.address), head)
