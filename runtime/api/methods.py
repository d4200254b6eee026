"""The local API: one table of methods, from which the checks, the documentation and OpenRPC are made."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from runtime import texts
from runtime.api.preview import Previews
from runtime.api.roles import Role
from runtime.audit import Audit
from runtime.seams import HostPower
from runtime.services.certificate import CertificateResult, CertificateService
from runtime.services.identity import IdentityResult, IdentityService
from runtime.session import Owner, SessionEnded, SessionError, Sessions
from runtime.state import Change, Component, StateBoard, Subscription
from runtime.supervisor import error_code

POWER_SECONDS = 15.0
"""What the host may take to accept the order to power off."""

SessionId = Annotated[str, Meta(max_length=64, description="What session.open returned.")]


class Caller(Owner, Protocol):
    """The connection a request came on."""

    @property
    def role(self) -> Role:
        """The caller's role."""

    def forward(self, subscription: Subscription) -> None:
        """Send the subscription's changes from now on, in place of an earlier one's."""


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
    previews: Previews
    power: HostPower
    audit: Audit


async def _status(terminal: Terminal, _caller: Caller, _params: Nothing) -> TerminalStatus:
    return TerminalStatus(terminal.version, terminal.boot_id, terminal.rig, terminal.state.full())


async def _subscribe(terminal: Terminal, caller: Caller, _params: Nothing) -> Subscribed:
    subscription = terminal.state.subscribe()
    caller.forward(subscription)
    return Subscribed(subscription.sequence, subscription.state)


async def _open(terminal: Terminal, caller: Caller, _params: Nothing) -> SessionOpened:
    return SessionOpened(terminal.sessions.open(caller).id)


async def _verify(terminal: Terminal, caller: Caller, params: OfSession) -> IdentityResult:
    session = terminal.sessions.find(params.session, caller)

    def guide(code: str) -> None:
        caller.notify("session.guidance", Guidance(session.id, code, texts.text(code).zh))

    return await terminal.identity.verify(session, guide)


async def _certificate(terminal: Terminal, caller: Caller, params: CertificateWanted) -> CertificateResult:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.certificate.request(session, params.certificate)


async def _close(terminal: Terminal, caller: Caller, params: OfSession) -> Nothing:
    session = terminal.sessions.find(params.session, caller)
    session.request_end("closed")
    await session.gone.wait()
    return Nothing()


async def _preview(terminal: Terminal, caller: Caller, params: OfSession) -> PreviewOpened:
    session = terminal.sessions.find(params.session, caller)
    return PreviewOpened(terminal.previews.issue(session), terminal.preview_socket)


async def _power_off(terminal: Terminal, caller: Caller, _params: Nothing) -> Nothing:
    if terminal.sessions.occupied:
        raise SessionError(
            "session.busy", "a citizen is being served", advice="wait until the session has ended", retry=True
        )
    actor = f"uid {caller.uid}"
    await terminal.audit.append("power_off_ordered", actor=actor)
    try:
        async with asyncio.timeout(POWER_SECONDS):
            await terminal.power.power_off()
    except Exception as error:
        await terminal.audit.note("power_off_failed", actor=actor, details={"code": error_code(error)})
        raise
    return Nothing()


async def _discover(terminal: Terminal, _caller: Caller, _params: Nothing) -> Described:
    return describe(terminal.version)


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


METHODS = (
    Method("terminal.status", None, Nothing, TerminalStatus, _status, "The terminal's version and state."),
    Method(
        "events.subscribe",
        None,
        Nothing,
        Subscribed,
        _subscribe,
        "The whole state, then each change as `events.change`. Subscribing again starts anew.",
    ),
    Method("rpc.discover", None, Nothing, Described, _discover, "This API as an OpenRPC document."),
    Method(
        "session.open",
        Role.UI,
        Nothing,
        SessionOpened,
        _open,
        "Begin a citizen's session. It belongs to this connection and ends with it; there is one at a time.",
    ),
    Method(
        "session.verify_identity",
        Role.UI,
        OfSession,
        IdentityResult,
        _verify,
        "Read the ID card and compare its photo with the person before the camera; `session.guidance` says what the "
        "citizen should do meanwhile.",
    ),
    Method(
        "session.request_certificate",
        Role.UI,
        CertificateWanted,
        CertificateResult,
        _certificate,
        "Obtain a certificate for the verified citizen and print it.",
    ),
    Method(
        "session.close",
        Role.UI,
        OfSession,
        Nothing,
        _close,
        "End the session; the answer comes when everything it held is wiped.",
    ),
    Method(
        "preview.open",
        Role.UI,
        OfSession,
        PreviewOpened,
        _preview,
        "A one-use token for the preview socket, good for 10 s: connect, send it with a newline, and read frames, each "
        "a 4-byte big-endian length and a JPEG.",
    ),
    Method(
        "terminal.power_off",
        Role.OPERATOR,
        Nothing,
        Nothing,
        _power_off,
        "Order the host to power off; `session.busy` while a citizen is served. It is audited.",
    ),
)
"""Every method there is."""

NOTICES = (
    Notice("events.change", Change, "A component's state changed."),
    Notice("events.lost", Nothing, "This connection was too slow for the changes: subscribe again."),
    Notice("session.guidance", Guidance, "What the citizen should do now, during session.verify_identity."),
    Notice("session.ended", SessionEnded, "The session is gone, for whatever reason, and all it held is wiped."),
)
"""Every notification there is."""

BY_NAME = {method.name: method for method in METHODS}


def describe(version: str) -> Described:
    """Return the OpenRPC document of the table."""
    kinds = [kind for method in METHODS for kind in (method.params, method.result)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    methods = [
        {
            "name": method.name,
            "description": method.description,
            "paramStructure": "by-name",
            "params": [
                {
                    "name": field.encode_name,
                    "required": field.required,
                    "schema": components[method.params.__name__]["properties"][field.encode_name],
                }
                for field in msgspec.structs.fields(method.params)
            ],
            "result": {"name": method.result.__name__, "schema": schemas[2 * index + 1]},
        }
        for index, method in enumerate(METHODS)
    ]
    return Described(
        openrpc="1.3.2",
        info={"title": "govterm local API", "version": version},
        methods=methods,
        components={"schemas": components},
    )
