"""The rig's encrypting PIN pad: it holds keys, takes a PIN from a hand and gives it out encrypted (T6)."""

from collections.abc import Callable

from devices.driver import Damage
from devices.pinpad.commands import BATTERY_LOW, KEY_TABLE, TAMPERED, Info, encode_info
from devices.pinpad.protocol import FUNCTION_KEYS, LONGEST_REQUEST, PIN_KEYS, Frame, FrameDecoder, PinKey, encode
from sim.devices import pinblock
from sim.wire import Verbs

MASTER_KEYS = {
    "sm4": bytes.fromhex("1234567890ABCDEFABCDEF0987654321"),
    "3des": bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"),
}
"""The master keys in slot 1: the examples of protocols 6.3."""

_OK, _NO_MASTER, _NO_KEY, _BAD_LENGTH, _BAD_DATA, _BAD_PARAMETER, _NO_PIN = 0x60, 0xE2, 0xE4, 0xE8, 0xE9, 0xEB, 0xEF
_BYTE_OF = {key: byte for byte, key in {**FUNCTION_KEYS, **PIN_KEYS}.items()}
_TAMPER_CODES = {how: code for code, how in TAMPERED.items()}


class VirtualPinPad:
    """A pad whose digits leave it as stars, until its firmware is made faulty. It has no clock: `expire` is its limit.

    `entries` counts the entries begun, `keypad_on` tells whether one is running.
    """

    def __init__(self, *, serial: str = "26110017") -> None:
        self.entries = 0
        self.keypad_on = False
        self.key_table = KEY_TABLE
        self._serial = serial
        self._masters = {(algorithm, 1): key for algorithm, key in MASTER_KEYS.items()}
        self._keys: dict[tuple[str, int], bytes] = {}
        self._decoder = FrameDecoder(longest=LONGEST_REQUEST)
        self._said = bytearray()
        self._digits = ""
        self._entered: str | None = None
        self._shortest, self._longest = 4, 12
        self._clear_takes_all = True
        self._fault = _OK
        self._leaking = self._silent = False

    @property
    def verbs(self) -> Verbs:
        """What a hand can do at the pad."""
        return {
            "press": self.press,
            "clear": self.clear,
            "enter": self.enter,
            "cancel": self.cancel,
            "function": self.function,
            "expire": self.expire,
            "tamper": self.tamper,
            "lock": self.lock,
            "remove": self.remove,
            "low_battery": self.low_battery,
            "mend": self.mend,
            "forget_keys": self.forget_keys,
            "leak_clear_digit": self.leak_clear_digit,
            "silent": self.silent,
        }

    def press(self, digits: str) -> None:
        """Press digits; raise ValueError for anything else. Only stars leave the pad."""
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError("press takes digits")
        for digit in digits:
            if self.keypad_on and len(self._digits) < self._longest:
                self._digits += digit
                self._said.append(ord(digit) if self._leaking else _BYTE_OF[PinKey.STAR])

    def clear(self) -> None:
        """Press the clear key."""
        if self.keypad_on:
            self._digits = "" if self._clear_takes_all else self._digits[:-1]
            self._said.append(_BYTE_OF[PinKey.CLEAR])

    def enter(self) -> None:
        """Press enter; with too few digits nothing happens."""
        if self.keypad_on and len(self._digits) >= self._shortest:
            self._entered = self._digits
            self._end(PinKey.ENTER)

    def cancel(self) -> None:
        """Press cancel."""
        if self.keypad_on:
            self._end(PinKey.CANCEL)

    def expire(self) -> None:
        """Let the pad's own time limit pass."""
        if self.keypad_on:
            self._end(PinKey.TIMEOUT)

    def function(self, number: int) -> None:
        """Press F1 to F8; raise ValueError for another number."""
        if not 1 <= number <= 8:
            raise ValueError("there are F1 to F8")
        if self.keypad_on:
            self._said.append(0x40 + number)

    def tamper(self) -> None:
        """Open the pad: it forgets its keys and says so from now on."""
        self._defend("tampered")

    def lock(self) -> None:
        """Let the pad lock its commands."""
        self._defend("locked")

    def remove(self) -> None:
        """Lift the pad off its removal switch."""
        self._defend("removed")

    def low_battery(self) -> None:
        """Let the battery run low: the pad says so when it is asked who it is."""
        self._fault = BATTERY_LOW

    def mend(self) -> None:
        """Mend everything but the keys that are gone."""
        self._fault = _OK
        self._leaking = self._silent = False

    def forget_keys(self) -> None:
        """Take all keys away, the master keys too."""
        self._masters.clear()
        self._keys.clear()

    def leak_clear_digit(self, *, leaking: bool = True) -> None:
        """Make the firmware faulty: digits leave the pad in clear."""
        self._leaking = leaking

    def silent(self, *, silent: bool = True) -> None:
        """Let the pad say nothing any more."""
        self._silent = silent

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes; return the keys pressed since, then the replies."""
        requests = [found for found in self._decoder.feed(data) if isinstance(found, Frame | Damage)]
        said = bytes(self._said) + b"".join(map(self._reply, requests))
        self._said.clear()
        return b"" if self._silent else said

    def _end(self, key: PinKey) -> None:
        self.keypad_on = False
        self._digits = ""
        self._said.append(_BYTE_OF[key])

    def _defend(self, how: str) -> None:
        self._fault = _TAMPER_CODES[how]
        self._keys.clear()
        self._entered, self._digits, self.keypad_on = None, "", False

    def _reply(self, found: Frame | Damage) -> bytes:
        if isinstance(found, Damage):
            return b""
        body = bytes(found.body)
        if self._fault not in {_OK, BATTERY_LOW} or (self._fault == BATTERY_LOW and body == b"I"):
            return encode(bytes((self._fault,)))
        commands: dict[bytes, Callable[[bytes], bytes]] = {
            b"3": self._info,
            b"I": lambda _: self._serial.encode() + b"0" * 16,
            b"4": self._set_table,
            b"5": self._control,
            b"6": self._start,
            b"c": lambda args: self._load("sm4", args[2:4], args[4:6], args[6:]),
            b"2": lambda args: self._load("3des", args[:2], args[2:4], args[6:]),
            b"o": lambda args: self._pin_block("sm4", args[:2], args[3:]),
            b"7": lambda args: self._pin_block("3des", args[:2], args[3:]),
            b"e": lambda args: self._mac("sm4", args[:2], args[2:34], bytes.fromhex(args[36:].decode())),
            b"8": lambda args: self._mac("3des", args[:2], b"00" * 8, args[3:]),
        }
        work = commands.get(body[:1])
        try:
            return encode(bytes((_OK,)) + work(body[1:]) if work else bytes((_BAD_PARAMETER,)))
        except _Refused as refused:
            return encode(bytes((refused.code,)))
        except ValueError:
            return encode(bytes((_BAD_DATA,)))

    def _info(self, _: bytes) -> bytes:
        return encode_info(Info("ZT598", self._serial, "2.1", self.key_table, initialised=bool(self._masters)))

    def _set_table(self, table: bytes) -> bytes:
        if len(table) != len(KEY_TABLE):
            raise _Refused(_BAD_LENGTH)
        self.key_table = table
        return b""

    def _control(self, args: bytes) -> bytes:
        kind, value = args[:1], args[1:]
        if (kind, value) in {(b"0", b"30"), (b"0", b"32")}:
            self._digits, self._entered, self.keypad_on = "", None, False
        elif kind == b"4":
            self._shortest = int(value)
        elif kind == b"5":
            self._longest = int(value)
        elif kind != b"2":
            raise _Refused(_BAD_PARAMETER)
        return b""

    def _start(self, args: bytes) -> bytes:
        self._clear_takes_all = args.endswith(b"2")
        self._digits, self._entered, self.keypad_on = "", None, True
        self.entries += 1
        return b""

    def _load(self, algorithm: str, master: bytes, slot: bytes, wrapped: bytes) -> bytes:
        over = self._masters.get((algorithm, int(master, 16)))
        if over is None:
            raise _Refused(_NO_MASTER)
        key = pinblock.decrypt(algorithm, over, bytes.fromhex(wrapped.decode()))
        self._keys[algorithm, int(slot, 16)] = key
        return pinblock.check_value(algorithm, key).hex().upper().encode()

    def _pin_block(self, algorithm: str, slot: bytes, pan12: bytes) -> bytes:
        key = self._key(algorithm, slot)
        pin, self._entered = self._entered, None
        if pin is None:
            raise _Refused(_NO_PIN)
        block = pinblock.pin_block(algorithm, key, pin, pan12.decode())
        return b"00%02d" % len(pin) + block.hex().upper().encode()

    def _mac(self, algorithm: str, slot: bytes, start: bytes, data: bytes) -> bytes:
        key = self._key(algorithm, slot)
        code = pinblock.message_code(algorithm, key, bytes.fromhex(start.decode()), data)
        return code.hex().upper().encode()

    def _key(self, algorithm: str, slot: bytes) -> bytes:
        key = self._keys.get((algorithm, int(slot, 16)))
        if key is None:
            raise _Refused(_NO_KEY)
        return key


class _Refused(Exception):
    """A command that the pad does not do; the return code says why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
