"""A citizen registers a request with an attachment and rates its reply; another one stays anonymous."""

from typing import Any

from sim.caller import Caller
from sim.crash.service import Remains, Service, Stage
from sim.world import expect

BEGIN, REGISTER, RATE = "hotline.begin", "hotline.register", "hotline.rate"
DAY = 24 * 3600
LONGEST_DAYS = 40
REQUEST: dict[str, Any] = {"category": "complaint", "text": "路灯不亮已有一周。", "district": "样本区"}


async def _live(stage: Stage, ui: Caller) -> None:
    session = await stage.verified(ui)
    expect(await ui.call(BEGIN, session=session))
    await ui.call("session.begin_document", session=session)
    expect(await ui.call("session.add_page", session=session))
    expect(await ui.call("session.finish_document", session=session))
    expect(await ui.call("hotline.attach", session=session, attachment=1))
    expect(await ui.call(BEGIN, session=session))
    asked: dict[str, Any] = {"session": session, "anonymous": False, "scans": [1], "telephone": "13900000001"}
    receipt = expect(await ui.call(REGISTER, **REQUEST, **asked))["receipt"]
    await _answered(stage, receipt)
    expect(await ui.call(RATE, session=session, receipt=receipt, verdict="satisfied", text="谢谢。"))
    await ui.call("session.close", session=session)
    session = (await ui.call("session.open"))["session"]
    expect(await ui.call(BEGIN, session=session))
    receipt = expect(await ui.call(REGISTER, **REQUEST, session=session, anonymous=True))["receipt"]
    expect(await ui.call("hotline.standing", session=session, receipt=receipt))
    await ui.call("session.close", session=session)


async def _answered(stage: Stage, receipt: str) -> None:
    """Let days pass at the hotline until the request has its reply."""
    for _ in range(LONGEST_DAYS):
        if (await stage.order("hotline_order", receipt=receipt))["stage"] == "answered":
            return
        await stage.order("hotline_advance", seconds=DAY)


async def _check(remains: Remains) -> list[str]:
    """Never registered twice, never lost, and the truth by the number that was shown; each rating once."""
    registered = [row[0] for row in remains.platform.execute("SELECT receipt FROM orders WHERE source = 'terminal'")]
    shown = [one["receipt"] for one in remains.told.results(BEGIN)]
    told = [one["receipt"] for one in remains.told.results(REGISTER) if one["outcome"] == "done"]
    rated = [one["receipt"] for one in remains.told.results(RATE) if one["outcome"] == "done"]
    failures = [f"{one} was told as registered, and the platform has none" for one in told if one not in registered]
    failures += [f"{one} was registered, and nobody knows the number" for one in registered if one not in shown]
    if len(registered) > remains.told.asked(REGISTER):
        failures.append(f"{len(registered)} requests, more than were asked for")
    ratings = [row[0] for row in remains.platform.execute("SELECT receipt FROM order_ratings")]
    failures += [f"{one} was told as rated, and the platform has no rating" for one in rated if one not in ratings]
    failures += remains.settled("register", registered)
    began = remains.acted("register")
    for receipt in shown:
        said = await remains.stands(receipt)
        if receipt in registered and said in ("not_filed", "unknown", "unsettled"):
            failures.append(f"{receipt} is registered, and the terminal says {said}")
        elif receipt not in registered and said != "not_filed" and receipt in began:
            failures.append(f"{receipt} is not registered, and the terminal says {said}")
    return failures


SERVICE = Service("hotline", _live, _check, secrets=(REQUEST["text"], "13900000001", "谢谢。"))
