"""Records on virtual time: in order, within a window, until the platform's receipt (T12, I6)."""

import asyncio

import pytest

from tests.transport.line_rig import Rig, on_virtual_time, until
from transport import outbox, wire
from transport.payload import Payload, Record


@on_virtual_time
async def test_records_arrive_in_order_and_are_acknowledged():
    rig = Rig(streams=("supervision",))
    for number in range(100):
        rig.log.append("supervision", b"%d" % number)
    async with rig.life():
        rig.log.append("alarm", b"tamper")
        await until(lambda: rig.log.acknowledged == {"supervision": 100, "alarm": 1})
        rig.log.append("supervision", b"100")
        await until(lambda: rig.log.acknowledged["supervision"] == 101)
    supervision = [record for stream, record in rig.platform.records if stream == "supervision"]
    assert [record.sequence for record in supervision] == list(range(1, 102))
    assert [record.body for record in supervision] == [b"%d" % number for number in range(101)]
    assert rig.channel.dropped == {}


@on_virtual_time
async def test_no_more_than_the_window_goes_ahead_of_the_receipt():
    rig = Rig()
    rig.platform.receipts = False
    for _ in range(2 * outbox.WINDOW):
        rig.log.append("supervision")
    async with rig.life():
        await asyncio.sleep(1)
        rig.log.append("supervision")
        await asyncio.sleep(1)
        assert len(rig.platform.records) == outbox.BATCH_RECORDS, "one message until its receipt"
        rig.platform.receipt(rig.uplink.line.deliver, "supervision", 5)
        await asyncio.sleep(1)
        assert [record.sequence for _, record in rig.platform.records] == list(range(1, outbox.WINDOW + 6))
        assert rig.log.acknowledged["supervision"] == 5


@on_virtual_time
async def test_what_was_not_received_is_not_acknowledged():
    rig = Rig()
    rig.platform.receipts = False
    rig.log.append("supervision")
    async with rig.life():
        await until(lambda: len(rig.platform.records) == 1)
        assert rig.log.acknowledged["supervision"] == 0


@on_virtual_time
async def test_records_whose_receipts_were_lost_are_sent_again_in_order():
    """A PUBACK proves nothing: only the receipt ends the sending, however often new records wake the outbox."""
    rig = Rig()
    rig.platform.receipts = False
    for _ in range(3):
        rig.log.append("supervision")
    async with rig.life():
        await asyncio.sleep(outbox.RESEND_SECONDS - 1)
        rig.log.append("supervision")
        await asyncio.sleep(1.5)
        assert [record.sequence for _, record in rig.platform.records] == [1, 2, 3, 1, 2, 3, 4]
        rig.platform.receipts = True
        await until(lambda: rig.log.acknowledged["supervision"] == 4)
    assert [record.sequence for _, record in rig.platform.records[7:]] == [1, 2, 3, 4]


@on_virtual_time
async def test_records_in_flight_when_the_line_is_lost_are_sent_again():
    rig = Rig()
    rig.platform.receipts = False
    for _ in range(5):
        rig.log.append("supervision")
    async with rig.life() as life:
        await until(lambda: len(rig.platform.records) == 5)
        rig.platform.receipt(rig.uplink.line.deliver, "supervision", 2)
        await until(lambda: rig.log.acknowledged["supervision"] == 2)
        rig.uplink.line.lose()
        await asyncio.wait([life], timeout=1)
    rig.log.append("supervision")
    rig.platform.receipts = True
    async with rig.life():
        await until(lambda: rig.log.acknowledged["supervision"] == 6)
    assert [record.sequence for _, record in rig.platform.records] == [1, 2, 3, 4, 5, 3, 4, 5, 6]


@on_virtual_time
async def test_a_receipt_for_more_than_the_log_ever_had_skips_none_and_begins_another_stream():
    """I6: the journal was restored from an older image."""
    rig = Rig()
    rig.platform.receipt_ahead = 1_000
    rig.log.append("supervision")
    async with rig.life():
        await until(lambda: rig.log.renewed == ["supervision"])
        rig.platform.receipt_ahead = 0
        rig.log.append("supervision")
        await until(lambda: rig.log.acknowledged["supervision"] == 2)
    told = [(stream, one.sequence) for stream, one in rig.platform.records]
    assert told == [("supervision", 1), ("supervision-", 1), ("supervision-", 2)]


@on_virtual_time
async def test_what_the_platform_has_other_records_of_is_told_under_another_name():
    """I6: all that was not receipted arrives, whichever receipts are lost, and the other streams go on meanwhile."""
    rig = Rig()
    rig.platform.went_on = 1
    for number in range(100):
        rig.log.append("supervision", b"%d" % number)
    async with rig.life() as life:
        await until(lambda: rig.log.renewed == ["supervision"], seconds=1)
        rig.platform.receipt(rig.uplink.line.deliver, "supervision", 90, b"another")
        rig.log.records["alarm"].append(Record("-alarm", 1, Payload("alarm", 1, personal=False, body=b"alarm")))
        rig.log.wake()
        await until(lambda: rig.log.acknowledged["alarm"] == 1, seconds=1)
        await until(lambda: rig.log.acknowledged["supervision"] == 100, seconds=outbox.RESEND_SECONDS + 1)
        assert not life.done()
    told = [(stream, one.sequence, one.body) for stream, one in rig.platform.records]
    assert [one for one in told if one[0] == "supervision-"] == [
        ("supervision-", number + 1, b"%d" % number) for number in range(100)
    ]
    assert rig.log.renewed == ["supervision"]


@on_virtual_time
async def test_a_receipt_from_before_the_line_saves_sending_again():
    """The receipts of the line before were lost; the first of this one says how much the platform has."""
    rig = Rig()
    rig.platform.receipts = False
    for _ in range(2 * outbox.WINDOW):
        rig.log.append("supervision")
    async with rig.life():
        await until(lambda: len(rig.platform.records) == outbox.BATCH_RECORDS)
        rig.platform.receipt(rig.uplink.line.deliver, "supervision", 300)
        await until(lambda: rig.log.acknowledged["supervision"] == 300, seconds=1)
        await until(lambda: rig.platform.records[-1][1].sequence == 2 * outbox.WINDOW, seconds=1)
    assert [one.sequence for _, one in rig.platform.records[outbox.BATCH_RECORDS :]] == list(
        range(301, 2 * outbox.WINDOW + 1)
    )
    assert rig.log.renewed == []


@on_virtual_time
async def test_a_platform_that_is_always_wrong_costs_little():
    rig = Rig()
    rig.platform.went_on = 1_000
    rig.log.append("supervision")
    async with rig.life():
        await asyncio.sleep(10 * outbox.RESEND_SECONDS)
    assert 9 <= len(rig.log.renewed) <= 11


@on_virtual_time
async def test_a_log_that_fails_ends_the_life_with_its_own_error():
    rig = Rig()

    async def broken(stream: str, after: int, limit: int):
        raise RuntimeError("disk gone")

    rig.log.unacknowledged = broken
    with pytest.raises(ExceptionGroup) as caught:
        await rig.channel.run(lambda: None)
    assert caught.group_contains(RuntimeError, match="disk gone")
    assert rig.uplink.open == 0


@on_virtual_time
async def test_records_go_in_batches_of_so_many_and_so_large():
    rig = Rig()
    for _ in range(150):
        rig.log.append("supervision", bytes(10))
    for size in (outbox.BATCH_BYTES + 1, 30_000, 20_000, 10):
        rig.log.append("supervision", bytes(size))
    batches = []
    take = rig.platform._hear

    def hear(stream, plaintext, send):
        if stream == "record":
            batches.append([len(record.body) for record in wire.decode(plaintext, wire.Records).records])
        take(stream, plaintext, send)

    rig.platform._hear = hear
    async with rig.life():
        await until(lambda: rig.log.acknowledged["supervision"] == 154)
    assert batches == [[10] * 64, [10] * 64, [10] * 22, [outbox.BATCH_BYTES + 1], [30_000], [20_000, 10]]


@on_virtual_time
async def test_a_stream_with_gaps_where_records_were_shed_goes_on():
    """Sequences 3 to 400 became one record at 400; the window counts records, not sequences."""
    rig = Rig()
    rig.platform.receipts = False
    kept = [1, 2, *range(400, 400 + outbox.WINDOW)]
    records = [Record("supervision", number, Payload("terminal.health", 1, False, b"x")) for number in kept]

    async def unacknowledged(stream, after, limit):
        done = rig.log.acknowledged[stream]
        return [record for record in records if stream == "supervision" and record.sequence > max(after, done)][:limit]

    async def acknowledge(stream, sequence):
        rig.log.acknowledged[stream] = sequence

    async def has(stream, sequence, digest):
        return True

    rig.log.unacknowledged, rig.log.acknowledge, rig.log.has = unacknowledged, acknowledge, has
    async with rig.life():
        await asyncio.sleep(1)
        assert [record.sequence for _, record in rig.platform.records] == kept[: outbox.BATCH_RECORDS]
        for receipt, then in ((2, kept), (450, kept), (kept[-1], kept)):
            rig.platform.receipt(rig.uplink.line.deliver, "supervision", receipt)
            await asyncio.sleep(1)
            assert rig.log.acknowledged["supervision"] == receipt
            assert [record.sequence for _, record in rig.platform.records] == then
