"""The board that a terminal runs on: its power, the daemon's lives one after the other, and the screens at it."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sim.memory import RecordedPower
from sim.simulate.judge import Judge
from sim.simulate.life import Life
from sim.simulate.outside import Surroundings
from sim.simulate.screen import Screen
from sim.simulate.trace import Trace
from sim.simulate.way_down import Moment
from sim.world import OPERATOR_UID, UI_UID

RESTART_SECONDS, BOOT_SECONDS = 2.0, 40.0
MOST_POINTS = 60
POWER_LOOK_SECONDS = 5.0
LONGEST_CUT_SECONDS = 900.0
"""By then a UPS that was told to cut has done so."""
STOP_SECONDS = 60.0


class Board:
    """Runs the daemon again whenever it ended. `on_notice` is given what the citizens' screen is told unasked."""

    def __init__(
        self,
        directory: Path,
        around: Surroundings,
        judge: Judge,
        trace: Trace,
        *,
        chance: random.Random,
        on_notice: Callable[[str, dict[str, Any]], None],
        skips_fsync: bool,
    ) -> None:
        self.lives: list[Life] = []
        self.life: Life | None = None
        """The daemon that runs, None while none does."""
        self.screen: Screen | None = None
        self.staff: Screen | None = None
        self._directory = directory
        self._around = around
        self._judge = judge
        self._trace = trace
        self._chance = chance
        self._on_notice = on_notice
        self._skips_fsync = skips_fsync
        self._is_over = False
        self._said: dict[str, str] = {}
        self._may_be_cut = False
        self._asking: set[asyncio.Task[None]] = set()

    def end(self, how: str, *, at_point: bool) -> None:
        """End the daemon's life (`killed`, `cut`) now, or at one of the next things that it does."""
        if self.life is None:
            return
        if at_point:
            self.life.arm(self._chance.randrange(1, MOST_POINTS), how)
        else:
            self.life.die(how)

    def expect_cut(self, *, expected: bool) -> None:
        """Take note that the power may be cut from now on, or not any more: only then the disk knows what it synced."""
        self._may_be_cut = expected
        if self.life is not None:
            self.life.disk.is_watched = expected

    def turn_on_screen(self) -> None:
        """Start the citizens' screen, where it is dark and there is a daemon."""
        if self.life is not None and (self.screen is None or self.screen.is_dark):
            self.screen = Screen(self.life, UI_UID, self._judge.screen_told, self._heard)

    async def stop(self) -> None:
        """Stop the daemon in order, for good."""
        self._is_over = True
        if self.life is not None:
            self.life.stop.set()
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.wait([self.life.ended])

    async def run(self) -> None:
        """Let one life of the daemon follow the other, each on what the one before left."""
        content, boot = b"", 1
        while True:
            self.life = life = Life(
                self._directory,
                self._around,
                content,
                boot_id=f"boot-{boot}",
                chance=self._chance,
                skips_fsync=self._skips_fsync,
            )
            life.disk.is_watched = self._may_be_cut
            if self.lives:
                life.vision.follow(self.lives[-1].vision)
            self.lives.append(life)
            life.power = _Switch(partial(self._is_off, life))
            life.begin()
            self._watch(life)
            how = await life.ended
            self.life = self.screen = self.staff = None
            self._look_at_end(life, how)
            content = life.left(how)
            if self._is_over:
                return
            life.disk.close()
            if how == "cut" or life.power.requests:
                await self._be_off(is_cut=how == "cut")
                boot += 1
            else:
                await asyncio.sleep(RESTART_SECONDS)

    async def watch_power(self) -> None:
        """Take the power from the board when the UPS gives none."""
        while True:
            await asyncio.sleep(POWER_LOOK_SECONDS)
            if not self._around.ups.output_on and self.life is not None:
                self._judge.way_down.starved()
                self.end("cut", at_point=False)

    def _is_off(self, life: Life) -> None:
        """Have systemd stop the daemon, and the board off: everything of a citizen is gone by now."""
        reader, judge = self._around.cardreader, self._judge
        judge.way_down.off(
            Moment(
                session=judge.availability.state("session"),
                has_card_inside=reader.card is not None and not self._around.holds_out_card,
                is_signing=life.is_signing,
                is_connected=life.is_connected,
                journal=life.disk,
                checkpoints=life.disk.checkpoints,
            )
        )
        judge.held.look("powered off")
        self._trace.tell("the board is powered off")
        life.stop.set()

    def _look_at_end(self, life: Life, how: str) -> None:
        self._judge.board(None)
        self._trace.tell(f"the daemon is {how}")
        if how == "broken":
            error = None if life.daemon_task.cancelled() else life.daemon_task.exception()
            self._judge.fail(f"the daemon ended by itself: {error!r}")
        if how == "stopped" and (names := sorted(task.get_name() for task in life.process.tasks.values())):
            self._judge.fail(f"tasks are left after the stop: {', '.join(names)}")
        if how == "stopped":
            self._judge.held.look("after its stop")
        self._judge.held.forget()

    async def _be_off(self, *, is_cut: bool) -> None:
        """Let the board be off until it has power again, and boot."""
        ups, loop = self._around.ups, asyncio.get_running_loop()
        self._may_be_cut = False
        if is_cut:
            self._around.cut_power()
            await asyncio.sleep(self._chance.uniform(15, 90))
        else:
            off_at = loop.time()
            await until(lambda: not ups.output_on or loop.time() >= off_at + LONGEST_CUT_SECONDS)
            if ups.output_on and not self._judge.troubled(off_at, off_at, "ups"):
                self._judge.fail("the board is off, the UPS gives power, and nobody turns it on")
            self._around.cut_power()
        await until(lambda: ups.output_on)
        self._around.give_power()
        await asyncio.sleep(BOOT_SECONDS)

    def _watch(self, life: Life) -> None:
        """Turn on the citizens' screen and an operator's."""
        self.turn_on_screen()
        self.staff = Screen(life, OPERATOR_UID, self._judge.staff_told, self._changed)
        asking = asyncio.create_task(self._subscribe(self.staff), name="operator")
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _subscribe(self, staff: Screen) -> None:
        with suppress(ConnectionError):
            state = (await staff.call("events.subscribe"))["state"]
            states = {name: component["state"] for name, component in state.items()}
            self._judge.board(states)
            self._trace.tell("the daemon serves")

    def _heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "session.ended":
            self._trace.tell(f"the session ends: {params['reason']}")
            self._judge.sees(None)
        self._on_notice(method, params)

    def _changed(self, method: str, params: dict[str, Any]) -> None:
        if method != "events.change":
            return
        name, component = params["component"], params["state"]
        said = f"{name} is {component['state']}" + (f" {component['code']}" if component.get("code") else "")
        self._judge.changed(name, component["state"])
        if self._said.get(name) != said and name != "session":
            self._said[name] = said
            self._trace.tell(said)


async def until(condition: Callable[[], bool]) -> None:
    """Look at a condition every second until it holds."""
    while not condition():  # noqa: ASYNC110 - what is looked at knows of no loop
        await asyncio.sleep(1.0)


class _Switch(RecordedPower):
    """The board's power switch: it tells that it was asked."""

    def __init__(self, on_off: Callable[[], None]) -> None:
        super().__init__()
        self._on_off = on_off

    async def power_off(self) -> None:
        """Have the board powered off."""
        await super().power_off()
        self._on_off()
