"""The errors of the PIN pad, each with its code (docs/devices/pinpad.md lists them)."""

from devices.errors import DeviceError
from devices.pinpad.commands import BATTERY_LOW, KEY_MISSING, TAMPERED

_MAINTAINER = "call the maintainer"
_MASTER = "the master key must be loaded in the pad's secure room"
_ENTER_AGAIN = "ask the citizen to enter the PIN again"
_ASK = "ask the citizen whether to go on"

_REFUSALS: dict[int, tuple[str, str, bool]] = {
    **dict.fromkeys(TAMPERED, ("tampered", "take no PIN at this terminal, and " + _MAINTAINER, False)),
    BATTERY_LOW: ("battery_low", "replace the pad's battery, or it loses its keys", False),
    **dict.fromkeys(KEY_MISSING, ("key_missing", "load new working keys", True)),
    **dict.fromkeys((0xE1, 0xE2), ("no_master_key", _MASTER, False)),
    **dict.fromkeys((0xD8, 0xE3, 0xE6, 0xE7), ("bad_key", "ask the platform for the key anew", False)),
    **dict.fromkeys((0xEC, 0xED), ("not_authorised", _MAINTAINER, False)),
    **dict.fromkeys((0xD6, 0xD7, 0xDE, 0xFE), ("failed", "replace the pad", False)),
    0xEE: ("timeout", _ASK, True),
    0xEF: ("no_pin", _ENTER_AGAIN, True),
}


def refused(code: int) -> DeviceError:
    """Return the error of a return code that is no success (protocols 6.1)."""
    what, advice, retry = _REFUSALS.get(code, ("refused", _MAINTAINER, True))
    return DeviceError(f"pinpad.{what}", f"the pad says {code:02X}", advice=advice, retry=retry)


def tampered(how: str) -> DeviceError:
    """The pad has said that it was tampered with."""
    return DeviceError("pinpad.tampered", f"the pad says that it is {how}", advice=_MAINTAINER, retry=False)


def clear_digit() -> DeviceError:
    """A digit came out of the pad in clear (T6)."""
    return DeviceError(
        "pinpad.clear_digit", "the pad sent a digit in clear", advice="replace the pad; it is not trusted", retry=False
    )


def bad_key() -> DeviceError:
    """The check value of a loaded key is not the platform's."""
    return DeviceError(
        "pinpad.bad_key", "the key has another check value", advice="ask the platform for the key anew", retry=False
    )


def bad_answer() -> DeviceError:
    """A whole frame holds what cannot be."""
    return DeviceError("pinpad.bad_answer", "the pad's answer makes no sense", advice=_MAINTAINER, retry=True)


def unknown_model() -> DeviceError:
    """The pad does not say who it is, or its keys keep other codes than ours."""
    return DeviceError(
        "pinpad.unknown_model", "this is no pad we know", advice="use an SZZT ZT588 or ZT598", retry=False
    )


def busy() -> DeviceError:
    """Another call did not end in time."""
    return DeviceError("pinpad.busy", "the pad is in use", advice="one entry at a time", retry=True)


def cancelled() -> DeviceError:
    """The citizen pressed cancel."""
    return DeviceError("pinpad.cancelled", "the citizen cancelled", advice=_ASK, retry=True)


def timed_out() -> DeviceError:
    """The citizen took too long."""
    return DeviceError("pinpad.timeout", "nothing was entered in time", advice=_ASK, retry=True)


def offline() -> DeviceError:
    """The life of the link ended during an entry."""
    return DeviceError("pinpad.offline", "the pad is not there", advice="check the pad's power and cable", retry=True)
