"""Recording devices that meet nobody: the UPS and the environment unit are kept as they are, cut into requests."""

from devices.masking.pieces import Piece

_LONGEST_LINE = 128
_MODBUS_REQUEST = 8


class UpsMask:
    """The mask of kind `ups`, for Megatec lines on a serial port."""

    def __init__(self) -> None:
        self._line = b""

    def to_device(self, data: bytes) -> list[Piece]:
        """Cut what the terminal says at each CR."""
        *lines, self._line = (self._line + data).split(b"\r")
        self._line = self._line[-_LONGEST_LINE:]
        return [kept(line + b"\r") for line in lines]

    def to_host(self, data: bytes) -> list[Piece]:
        """Keep what the UPS says."""
        return [kept(data)] if data else []


class EnvironmentMask:
    """The mask of kind `environment`; every request has eight bytes."""

    def __init__(self) -> None:
        self._request = b""

    def to_device(self, data: bytes) -> list[Piece]:
        """Cut what the terminal says every eight bytes."""
        self._request += data
        whole = len(self._request) // _MODBUS_REQUEST * _MODBUS_REQUEST
        pieces = [kept(self._request[at : at + _MODBUS_REQUEST]) for at in range(0, whole, _MODBUS_REQUEST)]
        self._request = self._request[whole:]
        return pieces

    def to_host(self, data: bytes) -> list[Piece]:
        """Keep what the unit says."""
        return [kept(data)] if data else []


def kept(data: bytes) -> Piece:
    """Return a piece that is all head."""
    return Piece(data, len(data))
