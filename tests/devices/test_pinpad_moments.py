"""The keypad is off whatever moment an entry or the pad's life ends at: every turn of the loop is tried (T6)."""

import asyncio
from contextlib import suppress

import pytest

from devices.errors import DeviceError
from sim import virtual_time
from tests.devices.cardreader_rig import at_step
from tests.devices.pinpad_rig import PIN, Rig


async def end_at(step: int, who: str, what: str) -> int:
    """End an entry or the pad's life at a turn of the loop; return how many turns a whole entry takes."""
    rig = Rig()
    life = asyncio.create_task(rig.pad.run(rig.online.set), name="life")
    await rig.online.wait()
    await rig.load_keys()

    async def use() -> None:
        with suppress(DeviceError):
            if what == "PIN":
                (await rig.enter()).wipe()
            else:
                await rig.pad.wait_function_key(wait_seconds=5)

    def press() -> None:
        rig.do("press", digits=PIN)
        rig.do("enter")

    asyncio.get_running_loop().call_later(2, press)
    task = asyncio.create_task(use(), name="use")
    turns = at_step(step, (life if who == "pad" else task).cancel)
    await asyncio.wait({task, life}, return_when=asyncio.FIRST_COMPLETED)
    count = turns()
    if count >= step:
        await asyncio.wait({life if who == "pad" else task})
        assert not rig.device.keypad_on, f"the keypad is on after turn {step}"
    life.cancel()
    await asyncio.gather(life, task, return_exceptions=True)
    return count


@pytest.mark.parametrize("what", ["PIN", "function key"])
@pytest.mark.parametrize("who", ["citizen", "pad"])
def test_no_keypad_stays_on(who: str, what: str) -> None:
    step, count = 0, 1
    while step < count:
        step += 1
        count = virtual_time.run(end_at(step, who, what))
    assert step > 15
