"""The methods of the government hotline, for the role `ui` (H1 to H4)."""

from dataclasses import dataclass

from devices.personal import Kind, PersonalText
from runtime import texts
from runtime.api.hotline_shapes import (
    AttachmentWanted,
    CategoryShown,
    EmergencyTold,
    HotlineShown,
    ReplyRated,
    RequestNamed,
    RequestProgress,
    RequestWanted,
)
from runtime.api.roles import Role
from runtime.api.shapes import Nothing, OfSession
from runtime.api.table import Caller, Method, Notice, Terminal
from runtime.hotline_texts import CATEGORIES
from runtime.messages.hotline import ATTACHMENTS
from runtime.services import emergency
from runtime.services.applications import SCANS_BYTES
from runtime.services.emergency import Emergency
from runtime.services.hotline import Wanted
from runtime.services.hotline_results import AttachmentTaken, RequestBegun, RequestRegistered, RequestShown


@dataclass(frozen=True, slots=True)
class _Teller:
    caller: Caller
    session: str

    def emergency(self, danger: Emergency) -> None:
        said = texts.text(danger.code)
        told = EmergencyTold(self.session, list(danger.dial), danger.code, said.zh, said.en)
        self.caller.notify("hotline.emergency", told)

    def progress(self, sent: int, total: int) -> None:
        self.caller.notify("hotline.progress", RequestProgress(self.session, sent, total))


async def _categories(terminal: Terminal, _caller: Caller, _params: Nothing) -> HotlineShown:
    notice = texts.text(emergency.ANY.code)
    return HotlineShown(
        categories=[
            CategoryShown("emergency", "紧急情况", "Emergency"),
            *(CategoryShown(category, said.zh, said.en) for category, said in CATEGORIES.items()),
        ],
        districts=list(terminal.hotline.districts),
        emergency_zh=notice.zh,
        emergency_en=notice.en,
        dial=list(emergency.ANY.dial),
    )


async def _begin(terminal: Terminal, caller: Caller, params: OfSession) -> RequestBegun:
    return await terminal.hotline.begin(terminal.sessions.find(params.session, caller))


async def _attach(terminal: Terminal, caller: Caller, params: AttachmentWanted) -> AttachmentTaken:
    return await terminal.hotline.attach(terminal.sessions.find(params.session, caller), params.attachment)


async def _register(terminal: Terminal, caller: Caller, params: RequestWanted) -> RequestRegistered:
    session = terminal.sessions.find(params.session, caller)
    wanted = Wanted(
        category=params.category,
        text=PersonalText(params.text, Kind.TEXT),
        district=params.district,
        anonymous=params.anonymous,
        telephone=None if params.telephone is None else PersonalText(params.telephone, Kind.TELEPHONE),
        scans=params.scans,
        no_danger=params.no_danger,
    )
    try:
        return await terminal.hotline.register(session, wanted, _Teller(caller, session.id))
    finally:
        wanted.wipe()


async def _standing(terminal: Terminal, caller: Caller, params: RequestNamed) -> RequestShown:
    return await terminal.hotline.standing(terminal.sessions.find(params.session, caller), params.receipt)


async def _rate(terminal: Terminal, caller: Caller, params: ReplyRated) -> RequestShown:
    session = terminal.sessions.find(params.session, caller)
    text = PersonalText(params.text, Kind.TEXT)
    try:
        return await terminal.hotline.rate(session, params.receipt, params.verdict, text)
    finally:
        text.wipe()


METHODS = (
    Method(
        "hotline.categories",
        Role.UI,
        Nothing,
        HotlineShown,
        _categories,
        "What a request may be about and where, and the notice of what to dial in an emergency, which is shown before "
        "anything is typed. It needs neither session nor line; no districts means that any may be typed.",
    ),
    Method(
        "hotline.begin",
        Role.UI,
        OfSession,
        RequestBegun,
        _begin,
        "Begin a request, in place of the one before: its receipt number, to be shown at once; asked for before "
        "anything is registered it says so. Attachments taken before stay. A citizen who is verified later begins "
        "again; an anonymous one needs no verification.",
    ),
    Method(
        "hotline.attach",
        Role.UI,
        AttachmentWanted,
        AttachmentTaken,
        _attach,
        "Take the document of session.finish_document as an attachment, in place of the one of this number before: "
        f"at most {ATTACHMENTS}, all together {SCANS_BYTES >> 20} MiB.",
    ),
    Method(
        "hotline.register",
        Role.UI,
        RequestWanted,
        RequestRegistered,
        _register,
        "Register the request that was begun. Words of an emergency are answered at once by `hotline.emergency` and "
        "refused with the same code and what to `dial`, begun or not and without the line too; `no_danger` goes on. "
        "`hotline.progress` tells how much the platform has; `done` means that it has all of it. "
        "With `hotline.unsure` nobody knows: call again, or ask by the number; `hotline.already` means that the try "
        "before was registered, and what changed since was not sent. An anonymous request "
        "needs no verified citizen.",
    ),
    Method(
        "hotline.standing",
        Role.UI,
        RequestNamed,
        RequestShown,
        _standing,
        "How a request stands. The reply and the texts of an anonymous one are for whoever has its number, those of "
        "another for its verified citizen; anybody else reads `hotline.needs_identity` and the stages only.",
    ),
    Method(
        "hotline.rate",
        Role.UI,
        ReplyRated,
        RequestShown,
        _rate,
        "Rate an answered request; `unsatisfied` opens it again (`hotline.reopened`). The same rating given twice "
        "counts once. Any but an anonymous request is rated by its verified citizen.",
    ),
)

NOTICES = (
    Notice("hotline.emergency", EmergencyTold, "What to dial now: the request tells of an emergency."),
    Notice("hotline.progress", RequestProgress, "More of a request reached the platform."),
)
