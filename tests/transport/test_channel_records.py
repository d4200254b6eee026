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
        assert [record.sequence for _, record in rig.platform.records] == list(range(1, outbox.WINDOW + 1))
        rig.platform.say(rig.uplink.line.deliver, "receipt", wire.Receipt("supervision", 5))
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
        assert [record.sequence for _, record in rig.platform.records] == [1, 2, 3, 4, 1, 2, 3, 4]
        rig.platform.receipts = True
        await until(lambda: rig.log.acknowledged["supervision"] == 4)
    assert [record.sequence for _, record in rig.platform.records[8:]] == [1, 2, 3, 4]


@on_virtual_time
async def test_records_in_flight_when_the_line_is_lost_are_sent_again():
    rig = Rig()
    rig.platform.receipts = False
    for _ in range(5):
        rig.log.append("supervision")
    async with rig.life() as life:
        await until(lambda: len(rig.platform.records) == 5)
        rig.platform.say(rig.uplink.line.deliver, "receipt", wire.Receipt("supervision", 2))
        await until(lambda: rig.log.acknowledged["supervision"] == 2)
        rig.uplink.line.lose()
        await asyncio.wait([life], timeout=1)
    rig.log.append("supervision")
    rig.platform.receipts = True
    async with rig.life():
        await until(lambda: rig.log.acknowledged["supervision"] == 6)
    assert [record.sequence for _, record in rig.platform.records] == [1, 2, 3, 4, 5, 3, 4, 5, 6]


@on_virtual_time
async def test_a_receipt_for_records_to_come_skips_none():
    rig = Rig()
    rig.platform.receipt_ahead = 1_000
    rig.log.append("supervision")
    async with rig.life():
        await until(lambda: rig.log.acknowledged["supervision"] == 1)
        rig.log.append("supervision")
        await until(lambda: rig.log.acknowledged["supervision"] == 2)
    assert [record.sequence for _, record in rig.platform.records] == [1, 2]


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

    rig.log.unacknowledged, rig.log.acknowledge = unacknowledged, acknowledge
    async with rig.life():
        await asyncio.sleep(1)
        assert [record.sequence for _, record in rig.platform.records] == kept[: outbox.WINDOW]
        for receipt, then in ((2, kept), (450, kept), (kept[-1], kept)):
            rig.platform.say(rig.uplink.line.deliver, "receipt", wire.Receipt("supervision", receipt))
            await asyncio.sleep(1)
            assert rig.log.acknowledged["supervision"] == receipt
            assert [record.sequence for _, record in rig.platform.records] == then
