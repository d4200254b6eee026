"""The life of a hotline order: every path legal, every clock right, every order archived in the end (H1, H3, H4)."""

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from runtime.messages.hotline import Category, Verdict
from sim.people import DISTRICTS
from sim.platform.hotline import (
    COORDINATION,
    DAY,
    DAYS,
    HOUR,
    INSPECTED_AFTER,
    RATING_SECONDS,
    ROUNDS,
    SUPERVISED_AFTER,
    Action,
    IllegalMove,
    Order,
    Source,
)
from sim.platform.orders import Content, Orders

NOW = 1_800_000_000
FOREVER = 400 * DAY
NEXT = {
    "registered": {"transcribed"},
    "transcribed": {"reviewed"},
    "reviewed": {"routed"},
    "routed": {"assigned"},
    "assigned": {"handling", "reviewed"},
    "handling": {"handling", "verified"},
    "verified": {"answered"},
    "answered": {"assigned", "followed_up"},
    "followed_up": {"archived"},
    "archived": set(),
}
"""Which stage may follow which; `handling` again is a warning, supervision or an inspection."""


def made(orders: Orders, category: Category = "complaint", *, source: Source = "call", at: int = NOW) -> str:
    number = orders.next_number()
    receipt = f"H-{number}"
    due = at + DAYS[category] * DAY
    order = Order(number, receipt, source, category, DISTRICTS[number % 4], at, due, entered_at=at)
    orders.register(order, Content("text"), "registered")
    return receipt


def found(orders: Orders, receipt: str) -> Order:
    order = orders.find(receipt)
    assert order is not None
    return order


def check_history(orders: Orders, receipt: str) -> None:
    """Each stage follows from the one before, in time, and each escalation came when it was due."""
    steps = orders.steps(receipt)
    actions = orders.actions(receipt)
    assert steps[0].stage == "registered"
    for (one, other), (action, at) in zip(pairwise(steps), actions[1:], strict=True):
        assert other.stage in NEXT[one.stage]
        assert one.at <= other.at == at
        assert (one.stage == other.stage == "handling") == (action in ("warn", "supervise", "inspect"))
    due = steps[0].at + DAYS[found(orders, receipt).category] * DAY
    level, reopened = 0, False
    for action, at in actions:
        match action:
            case "reopen":
                due, level, reopened = at + DAYS[found(orders, receipt).category] * DAY, 0, True
            case "warn":
                assert (level, at >= due) == (0, True)
                level = 1
            case "supervise":
                assert (level, at >= due) == (1, True)
                level = 2
            case "inspect":
                assert level == 2 or (reopened and level < 3)
                level = 3


class Life(RuleBasedStateMachine):
    """Time passes, people act and citizens rate, in any order."""

    receipts = Bundle("receipts")

    def __init__(self) -> None:
        super().__init__()
        self.database = sqlite3.connect(":memory:")
        self.orders = Orders(self.database, seed=1)
        self.now = NOW
        self.all: list[str] = []

    @rule(target=receipts, category=st.sampled_from(get_args(Category)), source=st.sampled_from(get_args(Source)))
    def register(self, category: Category, source: Source) -> str:
        self.all.append(made(self.orders, category, source=source, at=self.now))
        return self.all[-1]

    @rule(seconds=st.integers(0, 12 * HOUR) | st.integers(0, 9 * DAY))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.orders.tick(self.now)

    @rule(receipt=receipts, action=st.sampled_from(get_args(Action)))
    def act(self, receipt: str, action: Action) -> None:
        before, said = found(self.orders, receipt), self.orders.actions(receipt)
        try:
            after = self.orders.act(before, action, self.now)
        except IllegalMove:
            assert (found(self.orders, receipt), self.orders.actions(receipt)) == (before, said)
        else:
            assert after.stage in NEXT[before.stage]
            assert found(self.orders, receipt) == after
        self.orders.tick(self.now)

    @rule(receipt=receipts, verdict=st.sampled_from(get_args(Verdict)))
    def rate(self, receipt: str, verdict: Verdict) -> None:
        before = found(self.orders, receipt)
        if before.stage != "answered":
            with pytest.raises(IllegalMove):
                self.orders.rate(before, verdict, "", self.now)
            return
        after = self.orders.rate(before, verdict, "", self.now)
        if verdict == "unsatisfied" and before.round < ROUNDS:
            assert (after.stage, after.round, after.due_at) == (
                "assigned",
                before.round + 1,
                self.now + DAYS[before.category] * DAY,
            )
        else:
            assert (after.stage, after.is_doubtful) == ("followed_up", before.is_doubtful or verdict == "unsatisfied")

    @rule(receipt=receipts)
    def register_again(self, receipt: str) -> None:
        with pytest.raises(IllegalMove):
            self.orders.register(found(self.orders, receipt), Content("text"), "registered")

    @invariant()
    def nothing_due_is_left(self) -> None:
        assert not self.database.execute("SELECT 1 FROM orders WHERE next_at <= ?", (self.now,)).fetchall()

    def teardown(self) -> None:
        self.orders.tick(self.now + FOREVER)
        for receipt in self.all:
            order = found(self.orders, receipt)
            assert (order.stage, order.round <= ROUNDS, bool(order.reply)) == ("archived", True, True)
            check_history(self.orders, receipt)
        self.database.close()


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLife = Life.TestCase


@pytest.fixture
def orders() -> Iterator[Orders]:
    database = sqlite3.connect(":memory:")
    yield Orders(database, seed=1)
    database.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 3 * DAY), max_size=30))
def test_how_often_somebody_looks_changes_nothing(waits: list[int]) -> None:
    """The clocks are the orders' own: many ticks or one, the same history."""
    histories = []
    for steps in (waits, [sum(waits)]):
        database = sqlite3.connect(":memory:")
        orders, now = Orders(database, seed=7), NOW
        receipts = [made(orders, category) for category in get_args(Category) for _ in range(3)]
        for seconds in steps:
            now += seconds
            orders.tick(now)
        histories.append([orders.actions(receipt) for receipt in receipts])
        database.close()
    assert histories[0] == histories[1]


def test_a_hundred_orders_are_handled_and_the_late_ones_supervised(orders: Orders) -> None:
    """H1: most in time; an order that is late is warned when due, supervised a day later, inspected two days later."""
    receipts = [made(orders) for _ in range(200)]
    orders.tick(NOW + FOREVER)
    due = NOW + DAYS["complaint"] * DAY
    late: dict[str, int] = {"warn": 0, "supervise": 0, "inspect": 0}
    for receipt in receipts:
        check_history(orders, receipt)
        actions = dict(orders.actions(receipt))
        assert ("warn" in actions) == (actions["verify"] > due)
        assert ("supervise" in actions) == (actions["verify"] >= due + SUPERVISED_AFTER)
        assert ("inspect" in actions) == (actions["verify"] >= due + INSPECTED_AFTER)
        expected = {"warn": due, "supervise": due + SUPERVISED_AFTER, "inspect": due + INSPECTED_AFTER}
        for action, at in actions.items():
            if action in late:
                late[action] += 1
                assert at == expected[action]
        assert actions["follow_up"] == actions["answer"] + RATING_SECONDS
        assert actions["archive"] == actions["follow_up"] + DAY
    assert 100 > late["warn"] > late["supervise"] > late["inspect"] > 0


def test_an_order_that_a_department_hands_back_is_doubtful_and_goes_to_the_coordination(orders: Orders) -> None:
    receipts = [made(orders) for _ in range(100)]
    orders.tick(NOW + FOREVER)
    doubtful = [receipt for receipt in receipts if found(orders, receipt).is_doubtful]
    assert 0 < len(doubtful) < 40
    for receipt in receipts:
        assert (found(orders, receipt).department == COORDINATION) == (receipt in doubtful)
        assert ("hand_back" in dict(orders.actions(receipt))) == (receipt in doubtful)


def test_police_matters_stay_with_the_police(orders: Orders) -> None:
    """H4."""
    receipts = [made(orders, "police_non_emergency") for _ in range(100)]
    orders.tick(NOW + FOREVER)
    assert {"公安分局非警务分流岗" in found(orders, receipt).department for receipt in receipts} == {True}


def test_a_case_in_its_second_round_is_inspected_before_it_is_answered_again(orders: Orders) -> None:
    """H1, H3: hard cases are looked at on site."""
    receipt = made(orders)
    now = NOW
    for _ in range(ROUNDS):
        while found(orders, receipt).stage != "answered":
            now += HOUR
            orders.tick(now)
        orders.rate(found(orders, receipt), "unsatisfied", "还没有修好。", now)
    orders.tick(NOW + FOREVER)
    order = found(orders, receipt)
    assert (order.stage, order.round, order.verdict, order.is_doubtful) == ("archived", ROUNDS, "unsatisfied", True)
    told = [action for action, _ in orders.actions(receipt)]
    assert (told.count("answer"), told.count("reopen"), told.count("inspect")) == (ROUNDS, ROUNDS - 1, ROUNDS - 1)


def test_replies_are_published_without_who_asked_and_without_the_number(orders: Orders) -> None:
    """H2: published and archived."""
    receipt = made(orders)
    orders.tick(NOW + FOREVER)
    rows = orders._database.execute("SELECT * FROM published_replies").fetchall()
    assert len(rows) == 1
    assert receipt not in rows[0]
    assert found(orders, receipt).reply in rows[0]
