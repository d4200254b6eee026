"""Which device may serve as which kind (H8, L7).

One rule: a device that says who it is must be the one that is expected. Expected is what the kind's section states as
`identity`; where it states nothing, the first identity that was ever seen, which the journal remembers. Any other
device is refused until it is plugged anew, an operator asks for another try, or, where nothing is stated, an operator
accepts it. A device that says nothing has proved nothing: it serves unless `identity` or `usb` is stated. What counts
as identity is what the device's own protocol tells, else the serial number at USB. Of what was seen the two are never
compared with each other: a printer without paper tells nothing of itself, and has the number of its port all the same.
"""

import sqlite3
from collections.abc import Mapping

import structlog

from devices.errors import WrongDevice
from devices.hotplug import UsbPort
from devices.link import LinkLost
from runtime.config import Peripheral
from runtime.journal import Journal, JournalError

log = structlog.get_logger(__name__)


_KEEP = "INSERT OR REPLACE INTO identities VALUES (?, ?)"


class TrustError(Exception):
    """There is nothing to accept: `device.not_swapped`."""

    code = "device.not_swapped"
    retry = False
    advice = "only a device that is refused as swapped can be accepted; a stated identity is changed in its section"


class Trust:
    """Knows the expected identity of each kind."""

    def __init__(self, sections: Mapping[str, Peripheral], journal: Journal) -> None:
        self._sections = sections
        self._journal = journal
        self._remembered: dict[str, str] = {}
        """By kind what devices told, by `KIND.usb` the numbers at USB of those that told nothing."""
        self._refused: dict[str, tuple[str, str]] = {}
        """By kind where it would be remembered, and what it says."""

    async def load(self) -> None:
        """Read what the journal remembers."""
        rows = await self._journal.read(lambda db: db.execute("SELECT device, identity FROM identities").fetchall())
        self._remembered = dict(rows)

    def check_port(self, kind: str, port: UsbPort | None) -> None:
        """Look at the port before it is opened; raise WrongDevice, or LinkLost when a stated device is away."""
        wanted = self._sections[kind].usb
        if wanted is None:
            return
        if port is None:
            raise LinkLost("no such device at USB")
        if port.usb != wanted.lower():
            raise self._refuse(kind, "wrong_device", port.usb)

    def check_identity(self, kind: str, told: str | None, serial: str | None = None) -> bool:
        """Compare what a device tells, else its number at USB, with what is expected; raise WrongDevice.

        Returns True when something is new that is expected from now on, and to be remembered: the first identity that
        was ever seen, or the number at USB of a device that told the right one.
        """
        stated = self._sections[kind].identity
        identity, place = (serial, _at_usb(kind)) if told is None else (told, kind)
        if stated is not None and identity != stated:
            raise self._refuse(kind, "wrong_device", identity)
        first = stated is None and identity is not None and place not in self._remembered
        if stated is None and identity is not None:
            expected = self._remembered.setdefault(place, identity)
            if identity != expected:
                self._refused[kind] = (place, identity)
                raise self._refuse(kind, "swapped", identity)
        self._refused.pop(kind, None)
        if stated is None and told is not None and serial is not None:
            first = first or self._remembered.get(_at_usb(kind)) != serial
            self._remembered[_at_usb(kind)] = serial
        return first

    async def remember(self, kind: str) -> None:
        """Write the expected identity of a kind down; a journal that cannot is told in the log."""
        places = [place for place in (kind, _at_usb(kind)) if place in self._remembered]
        rows = [(place, self._remembered[place]) for place in places]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(_KEEP, rows)

        try:
            await self._journal.write(work)
        except JournalError as error:
            log.warning("identity_not_remembered", device=kind, code=error.code)

    def refused(self, kind: str) -> str:
        """Return the identity of the device that is refused as swapped; raise TrustError when there is none."""
        if kind not in self._refused:
            raise TrustError(f"no other {kind} is waiting to be accepted")
        return self._refused[kind][1]

    async def accept(self, kind: str, identity: str) -> None:
        """Expect the device of this identity from now on; what was known of the one before it counts no more."""
        place, _ = self._refused.get(kind, (kind, identity))
        other = kind if place != kind else _at_usb(kind)

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM identities WHERE device = ?", (other,))
            db.execute(_KEEP, (place, identity))

        await self._journal.write(work)
        self._remembered[place] = identity
        self._remembered.pop(other, None)
        self._refused.pop(kind, None)

    def _refuse(self, kind: str, what: str, found: str | None) -> WrongDevice:
        code = f"{kind}.{what}"
        advice = "change `identity` or `usb` in its section, or put the right device back"
        if what == "swapped":
            advice = "put the right device back, or accept this one: devices.accept"
        else:
            self._refused.pop(kind, None)
        log.error("device_refused", alarm=True, device=kind, code=code, found=found or "nothing", advice=advice)
        return WrongDevice(code, "another device is in its place", advice=advice, retry=False)


def _at_usb(kind: str) -> str:
    return f"{kind}.usb"
