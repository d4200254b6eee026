"""What the methods of the local API take and give, and what its notifications carry."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from runtime.state import Component
from runtime.tickets import Step

SessionId = Annotated[str, Meta(max_length=64, description="What session.open returned.")]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters, or no result."""


class OfSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session."""

    session: SessionId


class CertificateWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and a certificate."""

    session: SessionId
    certificate: Annotated[
        str,
        Meta(pattern="^[a-z0-9_]{1,64}$", description="The certificate's name, as in `social_insurance_enrolment`."),
    ]


class OfDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a component of `terminal.status` that is supervised."""

    device: Annotated[str, Meta(max_length=64, description="For instance `idcard`.")]


class TicketStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names an open ticket, and which of its clocks to stop."""

    ticket: Annotated[str, Meta(max_length=64, description="What tickets.list returned.")]
    step: Annotated[
        Step, Meta(description="`answer`: the fault was answered; `on_site`: somebody came; `part`: the part is there.")
    ]


class TerminalStatus(msgspec.Struct, frozen=True):
    """What the terminal is and how it fares."""

    version: str
    boot_id: str
    rig: bool
    state: dict[str, Component]


class SessionOpened(msgspec.Struct, frozen=True):
    """The new session's id, a secret of this connection."""

    session: str


class Subscribed(msgspec.Struct, frozen=True):
    """The whole state at `sequence`; `events.change` notifications follow from the next one on."""

    sequence: int
    state: dict[str, Component]


class PreviewOpened(msgspec.Struct, frozen=True):
    """Where to connect for frames, and the token to send there, ended by a newline."""

    token: str
    socket: str


class Guidance(msgspec.Struct, frozen=True):
    """Notification `session.guidance`: what the citizen should do now."""

    session: str
    code: str
    text: str


class Described(msgspec.Struct, frozen=True):
    """The OpenRPC document."""

    openrpc: str
    info: dict[str, str]
    methods: list[Any]
    components: dict[str, Any]
