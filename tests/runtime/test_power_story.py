"""The mains fail: who is told, who is refused, and the way down and back (T14, T5, T20)."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devices.config import Ups
from sim.memory import MemoryPort
from tests.runtime.house import CERTIFICATE, Caller, Refusal
from tests.runtime.payment_rig import LONG, Counter
from tests.runtime.power_rig import PowerHouse, tell

ORDER = ["session", "end", "cards", "print", "settle", "tell", "alarms", "records", "checkpoint", "look", "wipe", "ups"]


def test_the_mains_fail_and_come_back_and_nobody_is_disturbed(tmp_path, monkeypatch):
    """T14: with much runtime left everything goes on; the board says so."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        assert await house.state(ui) == "on_mains"
        house.ups.mains_off()
        await ui.component("power", "on_battery")
        session = await house.verified(ui)
        house.ups.mains_on()
        await ui.component("power", "on_mains")
        await ui.call("session.close", session=session)
        assert [line["event"] for line in house.audited()] == ["power_on_battery", "power_on_mains"]
        assert house.orders == []

    tell(tmp_path, story, monkeypatch)


def test_below_the_reserve_nobody_begins_and_who_is_there_has_a_deadline(tmp_path, monkeypatch):
    """T14: refused with words; the citizen is told how long they have, and goes on when the mains are back."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        session = await house.verified(ui)
        house.left(590)
        told = await ui.notice("session.warning")
        assert (told["reason"], told["seconds"], told["session"]) == ("power", 180.0, session)
        assert "市电中断" in told["text"]
        house.ups.mains_on()
        await ui.component("power", "on_mains")
        await asyncio.sleep(60)
        assert (await ui.call("session.extend", session=session))["seconds"] == 90.0
        await ui.call("session.close", session=session)
        house.left(590)
        await ui.component("power", "low")
        with pytest.raises(Refusal) as refused:
            await ui.call("session.open")
        assert refused.value.code == "session.power"

    tell(tmp_path, story, monkeypatch)


def test_the_board_goes_down_in_order(tmp_path, monkeypatch):
    """T14, T20: the UPS is told to cut when all else is done, and the host is told last."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        await house.verified(ui)
        house.left(100)
        ended = await ui.notice("session.ended")
        assert ended["reason"] == "power"
        await house.until(lambda: house.power.requests == 1, seconds=60)
        assert house.orders == ["S01R0003"]
        with pytest.raises(Exception, match="wiped"):
            house.enrolment.keys.identity.sign(b"x")
        house.stop.set()
        await house.until(lambda: "daemon_stopped" in (tmp_path / "audit.jsonl").read_text())
        steps = house.steps()
        assert list(steps) == [*ORDER, "results", "off"]
        assert set(steps.values()) == {None}

    tell(tmp_path, story, monkeypatch)


def test_the_mains_go_while_a_citizen_enters_the_pin(tmp_path, monkeypatch):
    """T5, T6, T20: the card is at the gate for its holder and not retained, no charge was made, and no PIN is left."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        counter = Counter(house)
        session, receipt = await counter.applied(ui)
        answer = await counter.begun(ui, session, receipt, "unionpay_card")
        asked = ui.ask("payment.card", session=session, order=answer["order"])
        await counter.insert()
        await house.until(lambda: counter.pad.keypad_on, seconds=60)
        counter.pad.press("1")
        house.pinpad_port.nudge()
        house.ups.battery_low()
        house.ups.mains_off()
        warned = await ui.notice("session.warning")
        assert (warned["reason"], warned["seconds"]) == ("power", 7.0)
        await house.until(lambda: house.power.requests == 1, seconds=60)
        del asked
        assert counter.at_gate()
        assert counter.reader.card is not None
        assert not counter.pad.keypad_on
        assert counter.charged() == 0
        assert "open" not in {state for _, state in counter.intents()}
        house.stop.set()
        await house.until(lambda: "daemon_stopped" in (tmp_path / "audit.jsonl").read_text())
        assert counter.at_gate()
        (left,) = [
            line["details"] for line in lines(tmp_path, "left_behind") if line["details"]["device"] == "cardreader"
        ]
        assert left["outcome"] == "left"

    tell(tmp_path, story, monkeypatch, **LONG)


def test_the_mains_back_and_nobody_begins_over_the_card_that_was_left(tmp_path, monkeypatch):
    """Rule 1, T5: what the way down left at the gate is waited for when it is undone."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        counter = Counter(house)
        session, receipt = await counter.applied(ui)
        answer = await counter.begun(ui, session, receipt, "unionpay_card")
        asked = ui.ask("payment.card", session=session, order=answer["order"])
        await counter.insert()
        await house.until(lambda: counter.pad.keypad_on, seconds=60)
        house.ups.battery_low()
        house.ups.mains_off()
        await ui.notice("session.ended")
        del asked
        house.ups.mains_on()
        house.ups.battery_low(low=False)
        await ui.component("power", "on_mains")
        left = [line["details"] for line in lines(tmp_path, "left_behind")]
        assert [one["outcome"] for one in left if one["device"] == "cardreader"] == ["left"]
        assert counter.at_gate()
        with pytest.raises(Refusal) as refused:
            await ui.call("session.open")
        assert refused.value.code == "session.not_clear"
        await counter.take()
        assert await ui.call("session.open")
        assert house.power.requests == 0

    tell(tmp_path, story, monkeypatch, **LONG)


@pytest.mark.parametrize(("seconds", "outcome"), [(0.8, "unknown"), (1.6, "done")])
def test_a_print_half_done_is_finished_or_void(tmp_path, monkeypatch, seconds, outcome):
    """T4, rule 2: the printer falls silent in the middle of the paper, or behind it; no intent stays open."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        session = await house.verified(ui)
        house.printer_port.latency_seconds = 0.2
        ui.ask("session.request_certificate", session=session, certificate=CERTIFICATE)
        await house.until(lambda: house.rows("SELECT 1 FROM intents WHERE kind = 'print' AND state = 'open'"))
        await asyncio.sleep(seconds)
        house.printer.silent()
        house.ups.battery_low()
        house.ups.mains_off()
        await house.until(lambda: house.power.requests == 1, seconds=60)
        assert house.rows("SELECT state FROM intents WHERE kind = 'print'") == [(outcome,)]
        assert house.orders == ["S01R0003"]

    tell(tmp_path, story, monkeypatch)


def test_without_the_line_nothing_is_waited_for_and_nothing_is_lost(tmp_path, monkeypatch):
    """T12: what the platform has not receipted stays in the journal."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        house.uplink.stop()
        await ui.component("platform", "offline")
        house.ups.battery_low()
        began = house.loop.time()
        house.ups.mains_off()
        await house.until(lambda: house.power.requests == 1, seconds=60)
        assert house.loop.time() - began < 36, "30 s until somebody looks, and no budget spent"
        steps = house.steps()
        assert (steps["alarms"], steps["records"], steps["settle"]) == (None, None, None)
        assert house.rows("SELECT count(*) FROM records")[0][0] > 5

    tell(tmp_path, story, monkeypatch)


def test_a_platform_that_receipts_nothing_costs_its_budget_and_no_more(tmp_path, monkeypatch):
    async def story(house: PowerHouse, ui: Caller) -> None:
        session = await house.verified(ui)
        house.platform.faults.receiptless()
        await ui.call("session.begin_document", session=session)
        house.ups.battery_low()
        house.ups.mains_off()
        await house.until(lambda: house.power.requests == 1, seconds=60)
        (took,) = [one["details"]["milliseconds"] for one in house.audited() if one["details"].get("step") == "records"]
        assert took <= 1000 * house.settings.power.deliver_seconds
        assert house.rows("SELECT count(*) FROM records")[0][0] > 0
        assert house.orders == ["S01R0003"]

    tell(tmp_path, story, monkeypatch)


def test_a_ups_that_is_unplugged_on_the_way_stops_nothing(tmp_path, monkeypatch):
    async def story(house: PowerHouse, ui: Caller) -> None:
        await house.verified(ui)
        house.ups.battery_low()
        house.ups.mains_off()
        await ui.notice("session.warning")
        house.ups_port.unplug()
        await house.until(lambda: house.power.requests == 1, seconds=90)
        await asyncio.sleep(1)
        assert house.orders == []
        assert house.steps()["ups"] in {"ups.offline", "ups.no_answer"}

    tell(tmp_path, story, monkeypatch)


def test_the_mains_back_on_the_way_and_the_terminal_serves_again(tmp_path, monkeypatch):
    """T14: in the real house, with a citizen before and another one after."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        await house.verified(ui)
        house.ups.battery_low()
        house.ups.mains_off()
        assert (await ui.notice("session.ended"))["reason"] == "power"
        house.ups.mains_on()
        house.ups.battery_low(low=False)
        await ui.component("power", "on_mains")
        assert house.power.requests == 0
        assert await house.verified(ui)
        assert house.orders == []
        assert house.audited()[-1]["event"] == "power_on_mains"
        told = [row[0] for row in house.rows("SELECT body FROM records WHERE schema = 'supervision.event'")]
        assert any(b"power.plan_cancelled" in body for body in told)

    tell(tmp_path, story, monkeypatch)


def test_mains_that_are_back_at_the_last_look_are_asked_for_until_they_stayed(tmp_path, monkeypatch):
    """T14: also where the UPS is polled seldom; what counts is the age of what it said."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        house.ups.battery_low()
        house.ups.mains_off()
        await ui.component("power", "going_down")
        house.ups.mains_on()
        house.ups.battery_low(low=False)
        await ui.component("power", "on_mains")
        await asyncio.sleep(60)
        assert (house.power.requests, house.orders) == (0, [])

    def seldom(house: PowerHouse) -> None:
        ups = Ups(port="/dev/ups", poll_seconds=30.0, stale_seconds=60.0)
        house.settings = msgspec.structs.replace(house.settings, ups=ups)

    tell(tmp_path, story, monkeypatch, seldom)


def test_a_stop_in_the_middle_ends_in_order_with_every_key_wiped(tmp_path, monkeypatch):
    """Rule 1: SIGTERM while the plan runs, before its point of no return; nobody is powered off by it."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        await house.verified(ui)
        house.ups.battery_low()
        house.ups.mains_off()
        await ui.notice("session.warning")
        house.stop.set()
        assert (await ui.notice("session.ended"))["reason"] == "shutdown"
        await house.until(lambda: "daemon_stopped" in (tmp_path / "audit.jsonl").read_text())
        assert house.power.requests == 0
        assert house.vision.wiped >= 1

    tell(tmp_path, story, monkeypatch)


def test_without_a_ups_nobody_knows_and_nobody_is_refused(tmp_path, monkeypatch):
    """T14: unknown is never low."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        assert await house.state(ui) == "unknown"
        assert await house.verified(ui)

    def without(house: PowerHouse) -> None:
        house.settings = msgspec.structs.replace(house.settings, ups=None)

    tell(tmp_path, story, monkeypatch, without)


def test_a_ups_that_falls_silent_is_unknown_and_powers_nothing_off(tmp_path, monkeypatch):
    """L10: low before, unknown after."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        house.left(590)
        await ui.component("power", "low")
        house.ups.silent()
        await ui.component("power", "unknown")
        assert await house.verified(ui)
        await asyncio.sleep(600)
        assert (house.power.requests, house.orders) == (0, [])

    tell(tmp_path, story, monkeypatch, idle_seconds=600.0)


@pytest.mark.parametrize("is_served", [False, True])
def test_idle_devices_are_asked_every_thirty_seconds_and_watched_ones_often_when_it_matters(
    tmp_path, monkeypatch, is_served
):
    """Rule 4: six devices, ten minutes; every one of them is asked, and the watched ones oftener when one is served."""

    async def story(house: PowerHouse, ui: Caller) -> None:
        asked: dict[str, list[float]] = {}

        def count(name: str, port: MemoryPort) -> None:
            hear = port.hear

            def counted(data: bytes) -> None:
                asked.setdefault(name, []).append(house.loop.time())
                hear(data)

            monkeypatch.setattr(port, "hear", counted)

        if is_served:
            await ui.call("session.open")
        await asyncio.sleep(70)
        for name, port in house.links.ports.items():
            count(name, port)
        await asyncio.sleep(600)
        polls = {name: 1 + sum(b - a > 1 for a, b in itertools.pairwise(at)) for name, at in asked.items()}
        assert len(polls) == 6
        often = {"/dev/ups": 110, "/dev/environment": 57} if is_served else {}
        assert polls == {name: pytest.approx(often.get(name, 20), abs=3) for name in polls}

    tell(tmp_path, story, monkeypatch, idle_seconds=600.0, longest_seconds=7_200.0, warn_seconds=1.0)


def lines(directory: Path, event: str) -> list[dict[str, Any]]:
    told = map(json.loads, (directory / "audit.jsonl").read_text().splitlines())
    return [line for line in told if line["event"] == event]
