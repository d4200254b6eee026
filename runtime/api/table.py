"""What a method of the local API is, who calls it, and everything the methods act on."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from runtime.alarms import Alarms
from runtime.api.operations import Operations
from runtime.api.presence import Presence
from runtime.api.preview import Previews
from runtime.api.roles import Role
from runtime.approvals import Approvals
from runtime.audit import Audit
from runtime.lockdown import Lockdown
from runtime.peripherals import Peripherals
from runtime.seams import HostPower
from runtime.services.applications import Applications
from runtime.services.certificate import CertificateService
from runtime.services.consent import ConsentService
from runtime.services.document import DocumentService
from runtime.services.hotline import Hotline
from runtime.services.identity import IdentityService
from runtime.services.matters import Matters
from runtime.services.payment import Payments
from runtime.services.payment_days import DayBook
from runtime.services.payment_slip import Slips
from runtime.services.progress import ProgressService
from runtime.services.sharing import Sharing
from runtime.session import Owner
from runtime.sessions import Sessions
from runtime.staff import Staff
from runtime.state import StateBoard, Subscription
from runtime.tickets import Tickets
from runtime.trial import Trials


class Caller(Owner, Protocol):
    """The connection a request came on."""

    @property
    def roles(self) -> frozenset[Role]:
        """The caller's roles."""

    @property
    def actor(self) -> str:
        """The caller as the audit log names him."""

    @property
    def operations(self) -> Operations:
        """The operations that it started."""

    def prepare(self, method: str, params: bytes) -> tuple[msgspec.Struct, Callable[[], Awaitable[msgspec.Struct]]]:
        """Return the parameters of a call and what does it, both for this caller; both raise RpcError."""

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
    consent: ConsentService
    identity: IdentityService
    certificate: CertificateService
    document: DocumentService
    matters: Matters
    applications: Applications
    payments: Payments
    slips: Slips
    payment_days: DayBook
    progress: ProgressService
    hotline: Hotline
    sharing: Sharing
    previews: Previews
    presence: Presence
    power: HostPower
    audit: Audit
    peripherals: Peripherals
    tickets: Tickets
    trials: Trials
    alarms: Alarms
    lockdown: Lockdown
    staff: Staff
    approvals: Approvals
    terminal_id: str
    wall_clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table. `role` is None for a method that every role may call.

    `errors` are the codes of its JSON-RPC errors beyond those of every request and of every session. One that
    `is_sensitive` needs a second person, where the platform grants the roles (H10).
    """

    name: str
    role: Role | None
    params: type[msgspec.Struct]
    result: type[msgspec.Struct]
    handler: Callable[[Terminal, Caller, Any], Awaitable[msgspec.Struct]]
    description: str
    errors: tuple[str, ...] = ()
    is_sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification the daemon sends."""

    name: str
    params: type[msgspec.Struct]
    description: str
