"""Makes the driver that the configured port asks for."""

from typing import Any

from devices.config import Ups as UpsSettings
from devices.link import OpenLink
from devices.status import StatusListener
from devices.ups.driver import Ups
from devices.ups.megatec import MegatecUps
from devices.ups.nut import NutUps


def make_ups(settings: UpsSettings, open_link: OpenLink, on_status: StatusListener, *, password: str = "") -> Ups[Any]:
    """Return the driver for `settings.port`: NUT for a `nut:` address, Megatec for a serial port.

    `open_link` must open both kinds of port; `password` is what is in `settings.password_file`.
    """
    if settings.port.startswith("nut:"):
        return NutUps(settings, open_link, on_status, password=password)
    return MegatecUps(settings, open_link, on_status)
