"""The methods of a citizen's session, for the role `ui`."""

from runtime import texts
from runtime.api.preview import MOST_PREVIEWS, TOKEN_SECONDS
from runtime.api.roles import Role
from runtime.api.shapes import (
    AssistanceGiven,
    CertificateWanted,
    ConsentGiven,
    DocumentProgress,
    DocumentWanted,
    Guidance,
    IdentityWanted,
    Nothing,
    OfSession,
    PageShown,
    PageWanted,
    PdfWanted,
    PreviewOpened,
    PreviewWanted,
    ReprintWanted,
    SessionExtended,
    SessionOpened,
)
from runtime.api.table import Caller, Method, Notice, Terminal
from runtime.clearance import LeftBehind
from runtime.services.certificate import CertificateResult
from runtime.services.consent import ConsentResult
from runtime.services.document import DocumentResult, PageResult
from runtime.services.identity import Guide, IdentityResult
from runtime.services.steps import Result
from runtime.session import Session, SessionEnded, SessionWarning
from runtime.sessions import OPEN_SECONDS
from vision.page_report import Progress
from vision.process import FINISH_SECONDS, PAGE_SECONDS
from vision.verifier import ProgressListener


def _progress(caller: Caller, session: Session) -> ProgressListener:
    def tell(progress: Progress) -> None:
        told = DocumentProgress(session.id, progress.step, progress.page, progress.pages)
        caller.notify("session.progress", told)

    return tell


async def _open(terminal: Terminal, caller: Caller, _params: Nothing) -> SessionOpened:
    return SessionOpened((await terminal.sessions.open(caller)).id)


async def _extend(terminal: Terminal, caller: Caller, params: OfSession) -> SessionExtended:
    return SessionExtended(terminal.sessions.extend(terminal.sessions.find(params.session, caller)))


async def _consent(terminal: Terminal, caller: Caller, params: ConsentGiven) -> ConsentResult:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.consent.record(session, params.purpose, params.version, agreed=params.agreed)


def _guide(caller: Caller, session: Session) -> Guide:
    def guide(code: str) -> None:
        caller.notify("session.guidance", Guidance(session.id, code, texts.text(code).zh))

    return guide


async def _verify(terminal: Terminal, caller: Caller, params: IdentityWanted) -> IdentityResult:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.identity.verify(session, _guide(caller, session), params.means)


async def _assist(terminal: Terminal, caller: Caller, params: AssistanceGiven) -> IdentityResult:
    session = terminal.sessions.find(params.session, caller)
    guide = _guide(caller, session)
    return await terminal.identity.assist(session, guide, staff=params.staff, code=params.code)


async def _certificate(terminal: Terminal, caller: Caller, params: CertificateWanted) -> CertificateResult:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.certificate.request(session, params.certificate)


async def _reprint(terminal: Terminal, caller: Caller, params: ReprintWanted) -> CertificateResult:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.certificate.reprint(session, params.receipt)


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


METHODS = (
    Method(
        "session.open",
        Role.UI,
        Nothing,
        SessionOpened,
        _open,
        "Begin a citizen's session. It belongs to this connection and ends with it; there is one at a time. "
        f"`session.not_clear` when something of the last citizen still lies at a device after {OPEN_SECONDS:g} s: the "
        "error's text says what to take where; it is taken in after the configured time, and a new try succeeds.",
        ("session.busy", "session.not_clear", "session.power"),
    ),
    Method(
        "session.extend",
        Role.UI,
        OfSession,
        SessionExtended,
        _extend,
        "Keep the session from ending of idleness, as any other request of it does.",
    ),
    Method(
        "session.consent",
        Role.UI,
        ConsentGiven,
        ConsentResult,
        _consent,
        "Record what the citizen chose when asked to consent to the use of a biometric; nothing is compared without. "
        "Who declines is refused with `consent.declined` and the `alternatives` there are.",
    ),
    Method(
        "session.verify_identity",
        Role.UI,
        IdentityWanted,
        IdentityResult,
        _verify,
        "Read the ID card, compare its photo with the person before the camera or its features with a finger, and get "
        "the platform's assertion, which every later call carries. `session.guidance` says what the citizen should do "
        "meanwhile. `consent.missing` without consent; `alternatives` are other ways where this one did not do.",
        ("consent.missing",),
    ),
    Method(
        "session.assist",
        Role.UI,
        AssistanceGiven,
        IdentityResult,
        _assist,
        "Verify the citizen by a member of staff who looks at card and person: read the ID card and have the platform "
        "check the one-time code. Who vouched is in the audit log, here and at the platform.",
    ),
    Method(
        "session.request_certificate",
        Role.UI,
        CertificateWanted,
        CertificateResult,
        _certificate,
        "Obtain a certificate for the verified citizen and print it. `receipt` is what it can be printed again by.",
    ),
    Method(
        "session.reprint_certificate",
        Role.UI,
        ReprintWanted,
        CertificateResult,
        _reprint,
        "Print a certificate of the verified citizen again, by its receipt number; the paper says that it is a reprint "
        "and which.",
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
        ("camera.missing", "preview.too_many"),
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
)

NOTICES = (
    Notice("session.guidance", Guidance, "What the citizen should do now, while identity is verified."),
    Notice("session.warning", SessionWarning, "The session ends after these seconds; session.extend averts idleness."),
    Notice(
        "session.left_behind",
        LeftBehind,
        "After a session: something lies at a device; it has to be taken before another session is opened.",
    ),
    Notice("session.progress", DocumentProgress, "A step of session.add_page or session.finish_document begins."),
    Notice("session.ended", SessionEnded, "The session is gone, for whatever reason, and all it held is wiped."),
)
