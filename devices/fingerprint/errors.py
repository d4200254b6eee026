"""The errors of the fingerprint sensor that its confirmation codes stand for (docs/devices/fingerprint.md)."""

from devices.errors import DeviceError
from devices.fingerprint.finger import TemplateFormat
from devices.fingerprint.protocol import Code

_CHECK_CABLE = "check the sensor's cable"
_CONFIGURE = "compare [fingerprint] in the configuration with the module's own settings"
_REPLACE = "call the maintainer: the sensor needs replacing"
_AGAIN = "try again"

_REFUSALS: dict[int, tuple[str, str, str, bool]] = {
    Code.PACKET_ERROR: ("garbled", "the wire damages requests", _CHECK_CABLE, True),
    Code.NO_FINGER: ("no_finger", "no finger was laid down", "ask the citizen to lay a finger down", True),
    Code.NOT_IMAGED: ("not_imaged", "the finger gave no picture", "ask the citizen to hold the finger still", True),
    Code.MESSY: ("dirty", "the picture is too messy", "wipe the sensor and the finger", True),
    Code.FEW_FEATURES: ("few_features", "too few features", "ask for a moist finger, firmly in the middle", True),
    Code.WRONG_PASSWORD: ("wrong_password", "the module has another password", _CONFIGURE, False),
    Code.WRONG_ADDRESS: ("wrong_address", "the module has another address", _CONFIGURE, False),
    Code.NOT_VERIFIED: ("not_verified", "the module was restarted", "none: it is opened again by itself", True),
    Code.FLASH_ERROR: ("hardware_error", "the module cannot write its memory", _REPLACE, False),
    Code.BAD_REGISTER: ("bad_setting", "the module refuses the security level", _CONFIGURE, False),
}


def refused(code: int) -> DeviceError:
    """Return the error of a confirmation code that is not the one hoped for (protocols 2.3)."""
    what, message, advice, retry = _REFUSALS.get(code, ("refused", "the module refuses", _AGAIN, True))
    return DeviceError(f"fingerprint.{what}", f"{message} ({code:02X})", advice=advice, retry=retry)


def not_lifted() -> DeviceError:
    """The finger of an earlier reading was not lifted, or the plate is so dirty that one seems to lie there."""
    return DeviceError(
        "fingerprint.not_lifted",
        "the finger was not lifted",
        advice="ask the citizen to lift the finger; when nobody touches the sensor, wipe it",
        retry=True,
    )


def busy() -> DeviceError:
    """Another reading did not end in time."""
    return DeviceError("fingerprint.busy", "the sensor is reading", advice="read one finger at a time", retry=True)


def format_mismatch(given: TemplateFormat) -> DeviceError:
    """The template is of another family: comparing it would give a number without a meaning (protocols 2.5)."""
    message = f"a template {given} is none of this module's"
    if given is TemplateFormat.GAT_1012:
        message = "an identity card's record (GA/T 1012) is not this module's template, though both have 512 bytes"
    advice = "compare it with a licensed algorithm of that format, or check the person by face"
    return DeviceError("fingerprint.format_mismatch", message, advice=advice, retry=False)


def unknown_format(size: int) -> DeviceError:
    """The module's templates have a size that no known format has, so they cannot be tagged."""
    return DeviceError(
        "fingerprint.unknown_format",
        f"the module's templates have {size} bytes",
        advice="use a module whose templates have 256 or 512 bytes",
        retry=False,
    )
