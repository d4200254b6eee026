"""A citizen is verified by face, and another one by a member of staff who vouches."""

from sim.caller import Caller
from sim.crash.service import Remains, Service, Stage
from sim.world import expect

STAFF = "staff-1"
VERIFY, ASSIST = "session.verify_identity", "session.assist"


async def _live(stage: Stage, ui: Caller) -> None:
    session = await stage.verified(ui)
    await ui.call("session.close", session=session)
    session = (await ui.call("session.open"))["session"]
    await stage.lay_card()
    code = await stage.order("staff_code", account=STAFF)
    expect(await ui.call(ASSIST, session=session, staff=STAFF, code=code))
    await stage.lift_card()
    await ui.call("session.close", session=session)


async def _check(remains: Remains) -> list[str]:
    """Who was told to be verified was asserted, by the platform's account too, and once for each time asked."""
    asserted = remains.platform.execute("SELECT count(*) FROM assertions").fetchone()[0]
    done = [one for one in (*remains.told.results(VERIFY), *remains.told.results(ASSIST)) if one["outcome"] == "done"]
    failures = []
    if len(done) > asserted:
        failures.append(f"{len(done)} were told to be verified, the platform asserted {asserted}")
    if asserted > remains.told.asked(VERIFY) + remains.told.asked(ASSIST):
        failures.append(f"the platform asserted {asserted}, more than asked for it")
    return failures


SERVICE = Service("identity", _live, _check)
