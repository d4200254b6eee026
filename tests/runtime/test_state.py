"""The state of the terminal: whole first, then numbered changes; a slow subscriber never holds anybody up (L43)."""

import pytest

from runtime.state import QUEUE_LENGTH, Change, Component, StateBoard, TooSlow

ONLINE, OFFLINE = Component("online"), Component("offline", "idcard.offline")


async def test_a_subscriber_gets_the_whole_state_then_changes_without_gaps():
    board = StateBoard()
    board.set("idcard", ONLINE)
    subscription = board.subscribe()
    assert (subscription.sequence, subscription.state) == (1, {"idcard": ONLINE})
    board.set("idcard", ONLINE)
    board.set("idcard", OFFLINE)
    board.set("printer", ONLINE)
    assert await subscription.next() == Change(2, "idcard", OFFLINE)
    assert await subscription.next() == Change(3, "printer", ONLINE)
    assert board.get("idcard") == OFFLINE
    assert subscription.state == {"idcard": ONLINE}


async def test_a_slow_subscriber_gets_what_was_kept_then_is_told_while_others_go_on():
    board = StateBoard()
    slow, quick = board.subscribe(), board.subscribe()
    for number in range(QUEUE_LENGTH + 10):
        board.set("idcard", Component(str(number)))
        assert (await quick.next()).sequence == number + 1
    for number in range(QUEUE_LENGTH):
        assert (await slow.next()).sequence == number + 1
    with pytest.raises(TooSlow):
        await slow.next()
    slow.close()


async def test_a_closed_subscription_takes_nothing_more():
    board = StateBoard()
    subscription = board.subscribe()
    subscription.close()
    subscription.close()
    for number in range(QUEUE_LENGTH * 2):
        board.set("idcard", Component(str(number)))
    assert board.subscribe().sequence == QUEUE_LENGTH * 2
