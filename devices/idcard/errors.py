"""The errors of the ID-card reader, each with its code (docs/devices/idcard.md lists them)."""

from devices.errors import DeviceError
from devices.idcard.protocol import Status

_LAY_DOWN_AGAIN = "ask the citizen to lift the card and lay it down again"
_CHECK_READER = "check the reader's power and cable; it is tried again by itself"
_CHECK_CABLE = "check the reader's cable"
_REPLACE = "call the maintainer: the reader's security module needs replacing"
_OTHER_CARD = "ask for a resident identity card or a residence permit"
_NOT_ACCEPTED = "card and reader do not accept each other: try once more, then serve at the counter"
_DOUBTFUL = "read again; a card that keeps this is damaged or forged"

_REFUSALS: dict[int, tuple[str, str, bool]] = {
    Status.BAD_CHECKSUM: ("idcard.garbled", _CHECK_CABLE, True),
    Status.BAD_LENGTH: ("idcard.garbled", _CHECK_CABLE, True),
    Status.SELECT_FAILED: ("idcard.read_failed", _LAY_DOWN_AGAIN, True),
    Status.READ_FAILED: ("idcard.read_failed", _LAY_DOWN_AGAIN, True),
    Status.SAM_NOT_AUTHORISED: ("idcard.sam_not_authorised", _REPLACE, False),
    Status.SELF_TEST_FAILED: ("idcard.sam_failed", _REPLACE, False),
    Status.WRONG_CARD_TYPE: ("idcard.wrong_card", _OTHER_CARD, False),
    Status.CERTIFICATE_FAILED: ("idcard.card_rejected", _NOT_ACCEPTED, False),
    Status.CARD_NOT_GENUINE: ("idcard.card_rejected", _NOT_ACCEPTED, False),
    Status.SAM_NOT_ACCEPTED: ("idcard.card_rejected", _NOT_ACCEPTED, False),
    Status.RANDOM_FAILED: ("idcard.card_rejected", _NOT_ACCEPTED, False),
}


def stopping() -> DeviceError:
    """The driver is leaving the reader."""
    return DeviceError("idcard.offline", "the reader is not served", advice=_CHECK_READER, retry=True)


def too_slow() -> DeviceError:
    """A card was there, but it was not read within the deadline."""
    return DeviceError("idcard.no_answer", "the card was not read in time", advice=_CHECK_READER, retry=True)


def busy() -> DeviceError:
    """Another read did not end in time."""
    return DeviceError("idcard.busy", "the reader is reading", advice="read one card at a time", retry=True)


def no_card() -> DeviceError:
    """No new card was laid down while the driver waited."""
    return DeviceError("idcard.no_card", "no card was laid down", advice=_LAY_DOWN_AGAIN, retry=True)


def card_removed() -> DeviceError:
    """The card left before it was read."""
    return DeviceError("idcard.card_removed", "the card left too early", advice=_LAY_DOWN_AGAIN, retry=True)


def read_failed() -> DeviceError:
    """The card is there but could not be selected or read."""
    return DeviceError("idcard.read_failed", "the card cannot be read", advice=_LAY_DOWN_AGAIN, retry=True)


def refused(status: int) -> DeviceError:
    """The error that a reply's SW3 stands for, when it is none of the expected outcomes (protocols 1.4)."""
    code, advice, retry = _REFUSALS.get(status, ("idcard.refused", _LAY_DOWN_AGAIN, True))
    return DeviceError(code, f"the reader says {status:02X}", advice=advice, retry=retry)


def variant_unsupported() -> DeviceError:
    """The card's flag is none of the four kinds'."""
    advice = "serve this citizen at the counter; cards of this kind are not known here"
    return DeviceError("idcard.variant_unsupported", "a card of an unknown kind", advice=advice, retry=False)


def bad_check_digit() -> DeviceError:
    """The number's last character is not the one that the others give."""
    return DeviceError("idcard.bad_check_digit", "the ID number's check digit is wrong", advice=_DOUBTFUL, retry=False)


def bad_record(what: str) -> DeviceError:
    """The card is malformed or contradicts itself; `what` quotes nothing of it."""
    return DeviceError("idcard.bad_record", what, advice=_DOUBTFUL, retry=False)
