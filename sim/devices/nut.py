"""The rig's NUT server: the other half of its network protocol (protocols 4.4), for one UPS and one user."""

from devices.driver import Damage
from devices.ups.nut_protocol import Words, WordsDecoder, encode_line, encode_listing
from sim.wire import Verbs

NAME = "kiosk"
USER = "govterm"
PASSWORD = "rig"  # noqa: S105 - of the rig

_ORDERS = ("shutdown.return", "shutdown.stop", "test.battery.start.quick")
_WRITABLE = ("ups.delay.shutdown",)


class VirtualNutServer:
    """A server with a UPS `kiosk` on the mains, which can be written to in `variables` at will."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.variables = {
            "battery.charge": "100",
            "battery.runtime": "1800",
            "battery.voltage": "27.3",
            "input.voltage": "221.3",
            "ups.delay.shutdown": "30",
            "ups.load": "12",
            "ups.mfr": "SANTAK",
            "ups.model": "C1K",
            "ups.status": "OL",
        }
        self._decoder = WordsDecoder()
        self._silent = False
        self._error: str | None = None
        self._user = self._password = ""

    @property
    def verbs(self) -> Verbs:
        """What can happen to the server and its UPS."""
        return {"set_variable": self.set_variable, "silent": self.silent, "fail": self.fail, "mend": self.mend}

    def set_variable(self, name: str, value: str) -> None:
        """Let the UPS have another value, such as `ups.status` "OB LB"."""
        self.variables[name] = value

    def silent(self, *, silent: bool = True) -> None:
        """Let the server answer nothing, or answer again."""
        self._silent = silent

    def fail(self, error: str = "DATA-STALE") -> None:
        """Let every question about the UPS end in `error`: DATA-STALE, DRIVER-NOT-CONNECTED."""
        self._error = error

    def mend(self) -> None:
        """End all faults."""
        self._error, self._silent = None, False

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return the answers."""
        return b"".join(map(self._answer, self._decoder.feed(data)))

    def _answer(self, found: Words | Damage) -> bytes:
        if self._silent:
            return b""
        if isinstance(found, Damage):
            return encode_line("ERR", "UNKNOWN-COMMAND")
        answer = self._reply(found)
        return answer if isinstance(answer, bytes) else encode_line(*answer)

    def _reply(self, words: Words) -> bytes | Words:
        answer: bytes | Words = ("ERR", "UNKNOWN-COMMAND")
        match words:
            case ("USERNAME", user):
                self._user, answer = user, ("OK",)
            case ("PASSWORD", password):
                self._password, answer = password, ("OK",)
            case ("LIST", "VAR", name):
                answer = self._problem(name) or encode_listing(NAME, self.variables)
            case ("GET", "VAR", name, variable):
                answer = self._problem(name) or self._get(variable)
            case ("GET", "DESC", name, variable):
                answer = self._problem(name) or ("DESC", NAME, variable, "Description unavailable")
            case ("LOGIN", name):
                answer = self._problem(name, login=True) or ("OK",)
            case ("SET", "VAR", name, variable, value):
                answer = self._problem(name, login=True) or self._set(variable, value)
            case ("INSTCMD", name, order):
                answer = self._problem(name, login=True) or self._order(order)
        return answer

    def _problem(self, name: str, *, login: bool = False) -> Words | None:
        if name != NAME:
            return ("ERR", "UNKNOWN-UPS")
        if login and (self._user, self._password) != (USER, PASSWORD):
            return ("ERR", "ACCESS-DENIED")
        return None if self._error is None else ("ERR", self._error)

    def _get(self, variable: str) -> Words:
        if variable in self.variables:
            return ("VAR", NAME, variable, self.variables[variable])
        return ("ERR", "VAR-NOT-SUPPORTED")

    def _set(self, variable: str, value: str) -> Words:
        if variable not in _WRITABLE or variable not in self.variables:
            return ("ERR", "READONLY" if variable in self.variables else "VAR-NOT-SUPPORTED")
        self.variables[variable] = value
        return ("OK",)

    def _order(self, order: str) -> Words:
        if order not in _ORDERS:
            return ("ERR", "CMD-NOT-SUPPORTED")
        self.orders.append(order)
        return ("OK",)
