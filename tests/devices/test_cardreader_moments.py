"""The card comes out whatever moment a use or the reader's life ends at: every turn of the loop is tried (T5, T20)."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from devices.cardreader.chip import ChipPower
from devices.cardreader.protocol import Frame, Position
from devices.errors import DeviceError
from sim import virtual_time
from sim.devices.bankcard import NUMBER
from tests.devices.cardreader_rig import Rig, at_step, card_in

INSIDE = {Position.INSIDE, Position.CONTACT}


def keep_frames(rig: Rig) -> list[Frame]:
    """Return the list in which every frame that the driver hears from now on is found."""
    decoder: Any = rig.reader._decoder
    feed, heard = decoder.feed, []

    def keep(data: bytes) -> list[object]:
        found: list[object] = feed(data)
        heard.extend(item for item in found if isinstance(item, Frame))
        return found

    decoder.feed = keep
    return heard


async def end_at(step: int, who: str, way: str, *, early: bool) -> int:
    """End the use of a card or the reader's life at a turn of the loop; return how many turns a whole use takes."""
    rig = Rig(early=early)
    life = asyncio.create_task(rig.reader.run(rig.online.set), name="life")
    await rig.online.wait()

    async def use() -> None:
        with suppress(DeviceError):
            async with card_in(rig) as reader:
                (await reader.read_tracks()).wipe()
                await reader.power(ChipPower.COLD)
                if way == "retained":
                    await reader.retain()

    task = asyncio.create_task(use(), name="use")
    heard = keep_frames(rig)
    turns = at_step(step, (life if who == "reader" else task).cancel)
    await asyncio.wait({task, life}, return_when=asyncio.FIRST_COMPLETED)
    count = turns()
    if count >= step:
        await asyncio.wait({life if who == "reader" else task})
        assert not rig.device.entry, f"the entry is open after turn {step}"
        assert rig.device.position not in INSIDE, f"the card is inside after turn {step}"
        if who == "citizen":
            assert not any(NUMBER.encode() in frame.data for frame in heard), f"not wiped after turn {step}"
            assert rig.reader._retained == len(rig.device.bin), f"a card is in the bin unseen after turn {step}"
    life.cancel()
    await asyncio.gather(life, task, return_exceptions=True)
    return count


@pytest.mark.parametrize("early", [False, True], ids=["waits for ENQ", "executes at once"])
@pytest.mark.parametrize("way", ["handed back", "retained"])
@pytest.mark.parametrize("who", ["citizen", "reader"])
def test_no_card_stays_inside_and_no_entry_open(who: str, way: str, early: bool) -> None:
    step, count = 0, 1
    while step < count:
        step += 1
        count = virtual_time.run(end_at(step, who, way, early=early))
    assert step > 50
