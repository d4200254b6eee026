"""A citizen files two applications: one accepted at once, one that stays pending; and asks for both by number."""

import sqlite3
from typing import Any

from sim.caller import Caller
from sim.crash.sabotage import Sabotage
from sim.crash.service import Remains, Service, Stage
from sim.world import expect

FORMS: dict[str, dict[str, Any]] = {
    "residence_permit_renewal": {
        "permit_number": "99010119900101123X",
        "address": "示例省样本市样本区测试路1号",
        "telephone": "13900000001",
        "reason": "务工",
    },
    "subsistence_allowance": {
        "members": 3,
        "income_fen": 120_000,
        "address": "示例省样本市样本区测试路1号",
        "telephone": "13900000001",
        "hardship": "家庭成员患病，暂无固定收入。",
    },
}
ENDS = {"residence_permit_renewal": "done", "subsistence_allowance": "pending"}
BEGIN, FILE = "application.begin", "application.file"


async def _live(stage: Stage, ui: Caller) -> None:
    session = await stage.verified(ui)
    for matter, form in FORMS.items():
        begun = expect(await ui.call(BEGIN, session=session, matter=matter))
        expect(await ui.call("application.form", session=session, values=form))
        for material in begun["matter"]["materials"]:
            await ui.call("session.begin_document", session=session)
            expect(await ui.call("session.add_page", session=session))
            expect(await ui.call("session.finish_document", session=session))
            expect(await ui.call("application.material", session=session, material=material["id"]))
        expect(await ui.call(FILE, session=session), ENDS[matter])
        expect(await ui.call("progress.by_receipt", receipt=begun["receipt"]))
    await ui.call("session.close", session=session)


async def check(remains: Remains) -> list[str]:
    """Never filed twice, never lost, and the truth by the number that was shown."""
    filed = dict(remains.platform.execute("SELECT receipt, state FROM filings").fetchall())
    away = {row[0] for row in remains.platform.execute("SELECT receipt FROM turned_away")}
    begun = [one["receipt"] for one in remains.told.results(BEGIN)]
    told = [one["receipt"] for one in remains.told.results(FILE) if one["outcome"] in ("done", "pending")]
    failures = [f"{receipt} was told as filed, and the platform has none" for receipt in told if receipt not in filed]
    failures += [f"{receipt} was filed, and nobody knows the number" for receipt in filed if receipt not in begun]
    if len(filed) > remains.told.asked(FILE):
        failures.append(f"{len(filed)} filings, more than were asked for")
    failures += remains.settled("file", filed)
    began = remains.acted("file")
    for receipt in begun:
        said = await remains.stands(receipt)
        right = {"not_filed"} if receipt in began else {"not_filed", "unknown"}
        if receipt in filed or receipt in away:
            right = {filed.get(receipt, "refused")}
        if said not in right:
            failures.append(f"asked for {receipt} the terminal says {said}, right is {' or '.join(sorted(right))}")
    return failures


def _lose(platform: sqlite3.Connection) -> None:
    platform.execute("DELETE FROM filings")


_SECRETS = ("99010119900101123X", "示例省样本市样本区测试路1号", "13900000001", "家庭成员患病，暂无固定收入。")

SERVICE = Service("applications", _live, check, secrets=_SECRETS, sabotages={Sabotage.LOSE_FILING: _lose})
