"""What a method of the local API is, who calls it, and everything the methods act on."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from runtime.alarms import Alarms
from runtime.api.preview import Previews
from runtime.api.roles import Role
from runtime.audit import Audit
from runtime.peripherals import Peripherals
from runtime.seams import HostPower
from runtime.services.certificate import CertificateService
from runtime.services.document import DocumentService
from runtime.services.identity import IdentityService
from runtime.session import Owner, Sessions
from runtime.state import StateBoard, Subscription
from runtime.tickets import Tickets
from runtime.trial import Trials


class Caller(Owner, Protocol):
    """The connection a request came on."""

    @property
    def role(self) -> Role:
        """The caller's role."""

    def forward(self, subscription: Subscription) -> None:
        """Send the subscription's changes from now on, in place of an earlier one's."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """Everything the methods act on."""

    version: str
    boot_id: str
    rig: bool
    preview_socket: str
    state: StateBoard
    sessions: Sessions
    identity: IdentityService
    certificate: CertificateService
    document: DocumentService
    previews: Previews
    power: HostPower
    audit: Audit
    peripherals: Peripherals
    tickets: Tickets
    trials: Trials
    alarms: Alarms
    terminal_id: str
    wall_clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table. `role` is None for a method that both roles may call."""

    name: str
    role: Role | None
    params: type[msgspec.Struct]
    result: type[msgspec.Struct]
    handler: Callable[[Terminal, Caller, Any], Awaitable[msgspec.Struct]]
    description: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification the daemon sends."""

    name: str
    params: type[msgspec.Struct]
    description: str
