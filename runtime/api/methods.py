"""The local API: one table of methods, from which the checks, the documentation and OpenRPC are made."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from runtime import texts
from runtime.api.preview import MOST_PREVIEWS, TOKEN_SECONDS, Previews
from runtime.api.roles import Role
from runtime.api.shapes import (
    CertificateWanted,
    Described,
    DocumentProgress,
    DocumentWanted,
    Guidance,
    Nothing,
    OfDevice,
    OfSession,
    PageShown,
    PageWanted,
    PdfWanted,
    PreviewOpened,
    PreviewWanted,
    SessionOpened,
    Subscribed,
    TerminalStatus,
    TicketStep,
)
from runtime.audit import Audit
from runtime.peripherals import Peripherals
from runtime.seams import HostPower
from runtime.services.certificate import CertificateResult, CertificateService
from runtime.services.document import DocumentResult, DocumentService, PageResult
from runtime.services.identity import IdentityResult, IdentityService
from runtime.services.steps import Result
from runtime.session import Owner, Session, SessionEnded, SessionError, Sessions
from runtime.state import Change, StateBoard, Subscription
from runtime.supervisor import error_code
from runtime.tickets import Ticket, TicketList, Tickets
from vision.page_report import Progress
from vision.process import FINISH_SECONDS, PAGE_SECONDS
from vision.verifier import ProgressListener

POWER_SECONDS = 15.0
"""What the host may take to accept the order to power off."""


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


def _progress(caller: Caller, session: Session) -> ProgressListener:
    def tell(progress: Progress) -> None:
        told = DocumentProgress(session.id, progress.step, progress.page, progress.pages)
        caller.notify("session.progress", told)

    return tell


async def _begin_document(terminal: Terminal, caller: Caller, params: DocumentWanted) -> Result:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.document.begin(session, paper=params.paper, tone=params.tone, sides=params.sides)


async def _add_page(terminal: Terminal, caller: Caller, params: PageWanted) -> PageResult:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.document.add(session, _progress(caller, session), retake=params.retake)


async def _finish_document(terminal: Terminal, caller: Caller, params: PdfWanted) -> DocumentResult:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.document.finish(session, _progress(caller, session), most_bytes=params.most_bytes)


async def _discard_document(terminal: Terminal, caller: Caller, params: OfSession) -> Result:
    return await terminal.document.discard(terminal.sessions.find(params.session, caller))


async def _close(terminal: Terminal, caller: Caller, params: OfSession) -> Nothing:
    session = terminal.sessions.find(params.session, caller)
    session.request_end("closed")
    await session.gone.wait()
    return Nothing()


async def _preview(terminal: Terminal, caller: Caller, params: PreviewWanted) -> PreviewOpened:
    session = terminal.sessions.find(params.session, caller)
    return PreviewOpened(terminal.previews.issue(session, params.camera), terminal.preview_socket)


async def _preview_page(terminal: Terminal, caller: Caller, params: PageShown) -> PreviewOpened:
    session = terminal.sessions.find(params.session, caller)
    return PreviewOpened(terminal.previews.issue_page(session, params.page), terminal.preview_socket)


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


async def _retry(terminal: Terminal, caller: Caller, params: OfDevice) -> Nothing:
    await terminal.peripherals.retry(params.device, actor=f"uid {caller.uid}")
    return Nothing()


async def _accept(terminal: Terminal, caller: Caller, params: OfDevice) -> Nothing:
    await terminal.peripherals.accept(params.device, actor=f"uid {caller.uid}")
    return Nothing()


async def _tickets(terminal: Terminal, _caller: Caller, _params: Nothing) -> TicketList:
    return await terminal.tickets.book()


async def _answer(terminal: Terminal, caller: Caller, params: TicketStep) -> Ticket:
    ticket = await terminal.tickets.answer(params.ticket, params.step)
    details = {"ticket": params.ticket, "step": params.step, "device": ticket.device}
    await terminal.audit.note("ticket_answered", actor=f"uid {caller.uid}", details=details)
    return ticket


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
        "session.begin_document",
        Role.UI,
        DocumentWanted,
        Result,
        _begin_document,
        "Begin to scan a document, in place of the one before, and turn the document camera on. The document lives in "
        "the vision process until `session.discard_document` or the session's end; when that process dies it is gone, "
        "and the next call is refused with `document.not_begun`.",
    ),
    Method(
        "session.add_page",
        Role.UI,
        PageWanted,
        PageResult,
        _add_page,
        "Scan what lies before the document camera as the next page, or again as page `retake`: found, flattened, "
        f"judged and turned upright, within {PAGE_SECONDS:g} s; `session.progress` tells the steps. A page that is not "
        "good enough is refused with its reason, and nothing changes. A PDF made before is wiped.",
    ),
    Method(
        "session.finish_document",
        Role.UI,
        PdfWanted,
        DocumentResult,
        _finish_document,
        f"Make the document's PDF, within {FINISH_SECONDS:g} s; `session.progress` tells the steps. The session holds "
        "it until it ends, the next page is added or the citizen is verified anew. The pages stay.",
    ),
    Method(
        "session.discard_document",
        Role.UI,
        OfSession,
        Result,
        _discard_document,
        "Wipe the document, its pages and its PDF; without a document it does nothing.",
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
        PreviewWanted,
        PreviewOpened,
        _preview,
        f"A one-use token for the preview socket and one camera, good for {TOKEN_SECONDS:g} s: connect, send it with a "
        "newline, and read frames, each a 4-byte big-endian length and a JPEG. `camera.missing` without such a camera; "
        f"`preview.too_many` after {MOST_PREVIEWS} previews in a session.",
    ),
    Method(
        "preview.page",
        Role.UI,
        PageShown,
        PreviewOpened,
        _preview_page,
        "A one-use token for the preview socket and one page of the document: connect, send it as for `preview.open`, "
        "read one frame, at most 1,024 pixels wide, and the end. Without such a page there is no frame.",
    ),
    Method(
        "terminal.power_off",
        Role.OPERATOR,
        Nothing,
        Nothing,
        _power_off,
        "Order the host to power off; `session.busy` while a citizen is served. It is audited.",
    ),
    Method(
        "devices.retry",
        Role.OPERATOR,
        OfDevice,
        Nothing,
        _retry,
        "Try a device at once that gave up, waits for its next try, or was refused; one that runs is left alone. It is "
        "audited.",
    ),
    Method(
        "devices.accept",
        Role.OPERATOR,
        OfDevice,
        Nothing,
        _accept,
        "Accept the device that was refused as `KIND.swapped`: from now on its identity is the expected one. Audited.",
    ),
    Method(
        "tickets.list",
        Role.OPERATOR,
        Nothing,
        TicketList,
        _tickets,
        "The open tickets and the last closed ones, newest first, and the late answers of the year (T15).",
    ),
    Method(
        "tickets.answer",
        Role.OPERATOR,
        TicketStep,
        Ticket,
        _answer,
        "Stop one of a ticket's clocks; recovery closes a ticket by itself. It is audited.",
    ),
)
"""Every method there is."""

NOTICES = (
    Notice("events.change", Change, "A component's state changed."),
    Notice("events.lost", Nothing, "This connection was too slow for the changes: subscribe again."),
    Notice("session.guidance", Guidance, "What the citizen should do now, during session.verify_identity."),
    Notice("session.progress", DocumentProgress, "A step of session.add_page or session.finish_document begins."),
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
