"""A citizen has a certificate printed, and printed again."""

from sim.caller import Caller
from sim.crash.service import Remains, Service, Stage
from sim.world import expect

NAME = "social_insurance_enrolment"
REQUEST, REPRINT = "session.request_certificate", "session.reprint_certificate"


async def _live(stage: Stage, ui: Caller) -> None:
    session = await stage.verified(ui)
    printed = expect(await ui.call(REQUEST, session=session, certificate=NAME))
    expect(await ui.call(REPRINT, session=session, receipt=printed["receipt"]))
    await ui.call("session.close", session=session)


async def _check(remains: Remains) -> list[str]:
    return paper(remains, REQUEST, REPRINT)


def paper(remains: Remains, *methods: str) -> list[str]:
    """Never printed twice without saying so: no paper without an event that says it came out, or may have."""
    told = [one for method in methods for one in remains.told.results(method)]
    asked = sum(remains.told.asked(method) for method in methods)
    printed = sum(1 for one in told if one["paper"] == "printed")
    noted = remains.count("$.step = 'print' AND $.outcome IN ('done', 'unknown')")
    failures = []
    if remains.pieces > noted:
        failures.append(f"{remains.pieces} pieces of paper came out, and the platform was told of {noted}")
    if remains.pieces > asked:
        failures.append(f"{remains.pieces} pieces of paper came out, more than were asked for")
    if printed > remains.pieces:
        failures.append(f"{printed} were told as printed, and {remains.pieces} pieces of paper came out")
    return failures


SERVICE = Service("certificate", _live, _check)
