"""Which driver serves which kind of device: the built-in ones, and those that other distributions bring.

A distribution adds a driver by an entry point in the group `govterm.drivers`: the name that `driver = "NAME"` in the
kind's section says, and a class with `kind`, `status`, `run` and the constructor `(settings, open_link, on_status)`.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from devices.config import Ups
from devices.link import OpenLink
from devices.status import DeviceStatus, StatusListener

GROUP = "govterm.drivers"

BUILT_IN = {
    "idcard": "devices.idcard.driver:IdCardReader",
    "printer": "devices.printer.driver:ReceiptPrinter",
    "fingerprint": "devices.fingerprint.driver:FingerprintSensor",
    "cardreader": "devices.cardreader.driver:Crt310",
    "pinpad": "devices.pinpad.driver:EncryptingPinPad",
    "ups": "runtime.drivers:make_ups",
    "environment": "devices.environment.driver:EnvironmentUnit",
}
"""The driver of each kind, loaded only where a terminal has such a device."""

KINDS = tuple(BUILT_IN)
"""Every kind, as the configuration's section, the unit and the component are named."""


class Driver(Protocol):
    """A driver as the daemon supervises it."""

    @property
    def status(self) -> DeviceStatus:
        """The device's last word."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Live until the link or the device fails; an error that `ready` or the listener raises ends the life too."""


DriverClass = Callable[[Any, OpenLink, StatusListener], Driver]


class DriverError(Exception):
    """A driver from another distribution cannot be used; `expected` says what would do."""

    code = "driver.unusable"
    retry = False
    advice = "install the driver's distribution, or correct `driver` in the kind's section"

    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected


def make_ups(settings: Ups, open_link: OpenLink, on_status: StatusListener) -> Driver:
    """Return the driver that the UPS's port asks for, with the password of a NUT server."""
    from devices.ups import factory
    from runtime.config import secret_file

    password = secret_file(settings.password_file).read_text().strip() if settings.password_file else ""
    return factory.make_ups(settings, open_link, on_status, password=password)


def installed() -> list[str]:
    """Return the names of the drivers that other distributions bring."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load(kind: str, name: str | None) -> DriverClass:
    """Return the kind's built-in driver, or the one of that name; raise DriverError when it is not there or unfit."""
    if name is None:
        built_in: DriverClass = EntryPoint(kind, BUILT_IN[kind], GROUP).load()
        return built_in
    entry = next(iter(entry_points(group=GROUP, name=name)), None)
    if entry is None:
        raise DriverError(f"an installed driver ({', '.join(installed()) or 'there is none'})")
    try:
        found: DriverClass = entry.load()
    except Exception as error:  # noqa: BLE001 - foreign code, whatever it does when it is imported
        raise DriverError(f"a driver that can be loaded (this one ends in {type(error).__name__})") from None
    if getattr(found, "kind", None) != kind:
        raise DriverError(f"a driver of the kind {kind}")
    return found
