"""The methods of matters, applications and progress (T8, T11, T17)."""

from runtime.api.matters_shapes import (
    ApplicationWanted,
    CatalogueInForce,
    FilingProgress,
    FormFilled,
    MaterialTaken,
    MatterShown,
    MattersListed,
    MatterWanted,
    ReceiptWanted,
)
from runtime.api.roles import Role
from runtime.api.shapes import Nothing, OfSession
from runtime.api.table import Caller, Method, Notice, Terminal
from runtime.services.applications import (
    SCAN_BYTES,
    SCANS_BYTES,
    ApplicationBegun,
    ApplicationChecked,
    ApplicationFiled,
    ApplicationForm,
)
from runtime.services.progress import ProgressResult
from runtime.services.steps import Result


async def _list(terminal: Terminal, _caller: Caller, _params: Nothing) -> MattersListed:
    catalogue = terminal.matters.catalogue
    return MattersListed(catalogue.version, catalogue.in_force_unix, terminal.matters.offers())


async def _show(terminal: Terminal, _caller: Caller, params: MatterWanted) -> MatterShown:
    catalogue, matter = terminal.matters.find(params.matter)
    return MatterShown(catalogue.version, matter, terminal.matters.reasons(matter))


async def _roll_back(terminal: Terminal, caller: Caller, _params: Nothing) -> CatalogueInForce:
    catalogue = await terminal.matters.roll_back(caller.actor)
    return CatalogueInForce(catalogue.version)


async def _begin(terminal: Terminal, caller: Caller, params: ApplicationWanted) -> ApplicationBegun:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.applications.begin(session, params.matter)


async def _form(terminal: Terminal, caller: Caller, params: FormFilled) -> ApplicationForm:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.applications.form(session, params.values)


async def _material(terminal: Terminal, caller: Caller, params: MaterialTaken) -> Result:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.applications.material(session, params.material)


async def _check(terminal: Terminal, caller: Caller, params: OfSession) -> ApplicationChecked:
    return await terminal.applications.check(terminal.sessions.find(params.session, caller))


async def _file(terminal: Terminal, caller: Caller, params: OfSession) -> ApplicationFiled:
    session = terminal.sessions.find(params.session, caller)

    def tell(sent: int, total: int) -> None:
        caller.notify("application.progress", FilingProgress(session.id, sent, total))

    return await terminal.applications.file(session, tell)


async def _by_receipt(terminal: Terminal, caller: Caller, params: ReceiptWanted) -> ProgressResult:
    return await terminal.progress.by_receipt(params.receipt, caller.actor)


async def _mine(terminal: Terminal, caller: Caller, params: OfSession) -> ProgressResult:
    return await terminal.progress.mine(terminal.sessions.find(params.session, caller))


METHODS = (
    Method(
        "matters.list",
        Role.UI,
        Nothing,
        MattersListed,
        _list,
        "The catalogue of matters in force. A matter with `reasons` cannot be begun now: a device it needs, or the "
        "line, is away. `catalogue.none` before the first catalogue came.",
        ("catalogue.none",),
    ),
    Method(
        "matters.show",
        Role.UI,
        MatterWanted,
        MatterShown,
        _show,
        "A matter with the JSON Schema (2020-12) of its form, its materials and its fee; `matter.unknown`.",
        ("catalogue.none", "matter.unknown"),
    ),
    Method(
        "matters.rollback",
        Role.OPERATOR,
        Nothing,
        CatalogueInForce,
        _roll_back,
        "Go back to the previous catalogue; the one that is left is not fetched again, a later one is. "
        "`catalogue.no_previous` without one. It is audited.",
        ("catalogue.no_previous",),
    ),
    Method(
        "application.begin",
        Role.UI,
        ApplicationWanted,
        ApplicationBegun,
        _begin,
        "Begin an application of the verified citizen, in place of the one before: the receipt number, to be shown at "
        "once, and the matter as it stays for this application, whatever catalogue comes.",
    ),
    Method(
        "application.form",
        Role.UI,
        FormFilled,
        ApplicationForm,
        _form,
        "Add values to the form. All are kept; `form.invalid` tells the problems of each field of the whole form.",
    ),
    Method(
        "application.material",
        Role.UI,
        MaterialTaken,
        Result,
        _material,
        "Take the document of session.finish_document as this material, in place of the one before: at most "
        f"{SCAN_BYTES >> 20} MiB, all together {SCANS_BYTES >> 20} MiB.",
    ),
    Method(
        "application.check",
        Role.UI,
        OfSession,
        ApplicationChecked,
        _check,
        "What is still missing: fields, materials, the fee.",
    ),
    Method(
        "application.file",
        Role.UI,
        OfSession,
        ApplicationFiled,
        _file,
        "File the application; `application.progress` tells how much the platform has. `done` and `pending` mean that "
        "it has all of it. With `application.unsure` nobody knows: call again, or ask by the number. The fee of one "
        "that is turned away goes back before the answer: `fee` says how far that is.",
    ),
    Method(
        "progress.by_receipt",
        Role.UI,
        ReceiptWanted,
        ProgressResult,
        _by_receipt,
        "Where a receipt stands, for whoever has its number, with or without a session: title, state and time only.",
    ),
    Method(
        "progress.mine",
        Role.UI,
        OfSession,
        ProgressResult,
        _mine,
        "Where every receipt of the verified citizen stands, newest first.",
    ),
)

NOTICES = (Notice("application.progress", FilingProgress, "More of an application reached the platform."),)
