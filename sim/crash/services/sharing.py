"""A citizen asks shared resources once, and the terminal pulls a data set and the next version of it."""

from typing import Any

from sim.caller import Caller
from sim.crash.service import Remains, Service, Stage
from sim.world import expect

SET: dict[str, Any] = {"resource": "open_government", "purpose": "public_display"}
QUERY, CALL, PULL = "sharing.query", "sharing.call", "sharing.dataset"


async def _live(stage: Stage, ui: Caller) -> None:
    expect(await ui.call(QUERY, **SET, parameters={"words": "居住证"}))
    expect(await ui.call(PULL, **SET))
    await stage.order("publish_dataset", resource=SET["resource"])
    expect(await ui.call(PULL, **SET))
    session = await stage.verified(ui)
    expect(await ui.call(CALL, resource="household_check", purpose="application", session=session))
    expect(await ui.call(QUERY, resource="social_insurance", purpose="application", session=session))
    await ui.call("session.close", session=session)


async def _check(remains: Remains) -> list[str]:
    """Each use is counted once, here as there (S6), and a data set that is here is whole and the next pull works."""
    failures = _differences(remains)
    told = [one for method in (QUERY, CALL) for one in remains.told.results(method) if one["outcome"] == "done"]
    counted = remains.journal.execute(
        "SELECT count(*) FROM metering WHERE mode <> 'dataset' AND code IS NULL"
    ).fetchone()[0]
    if len(told) > counted:
        failures.append(f"{len(told)} were answered, {counted} are in the ledger")
    had = max((one["version"] for one in remains.told.results(PULL) if one["outcome"] == "done"), default=None)
    kept = (await remains.ui.call(PULL, **SET, pull=False, most=1))["version"]
    if had is not None and (kept is None or kept < had):
        failures.append(f"version {had} of the data set was told to be here, version {kept} is")
    again = await remains.ui.call(PULL, **SET, most=1)
    if again["outcome"] != "done" or not again["rows"]:
        failures.append(f"the data set can no longer be pulled: {again['code']}")
    return failures + _differences(remains)


def _differences(remains: Remains) -> list[str]:
    ours = dict(remains.journal.execute("SELECT id, units FROM metering").fetchall())
    theirs = dict(remains.platform.execute("SELECT use, units FROM sharing_uses").fetchall())
    uses = sorted(use for use in ours.keys() | theirs.keys() if ours.get(use) != theirs.get(use))
    return [f"a use of {theirs.get(use)} units at the platform is one of {ours.get(use)} here" for use in uses]


SERVICE = Service("sharing", _live, _check)
