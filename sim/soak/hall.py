"""The UI and the citizens before it, a process of its own: `python -m sim.soak.hall`. One citizen after the other.

SIGTERM lets the one who is served be the last, SIGUSR1 breaks the connection to the daemon off, as when the UI's own
process dies, but at once goes on with a new one.
"""

import argparse
import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from runtime.client import ClientError, RpcError, Terminal, connect
from sim.citizens.hand import Ears, Hand
from sim.citizens.ledger import Ledger, NotServed
from sim.citizens.plan import VISITS, Visit, luck
from sim.citizens.visits import Citizen
from sim.control import ControlError
from sim.parent import end_with_parent
from sim.settings import load_rig
from sim.soak.visitors import Came, Left, Visitors, write

CALLS, VISITORS, WANTED = "calls.jsonl", "visitors.jsonl", "wanted"
PAUSE_SECONDS = 0.1
"""Between two citizens."""
TURNED_AWAY_SECONDS = 0.5
"""Until the next one tries where one was not served."""
_RECONNECT_SECONDS = 0.2


class Hall:
    """Citizens come until it is stopped."""

    def __init__(self, config: Path) -> None:
        self._files, settings = load_rig(config)
        self._seed = settings.seed
        directory = self._files.directory
        self._hand = Hand(self._files)
        self._ledger = Ledger(directory / CALLS)
        self._wanted = directory / WANTED
        self._visitors = (directory / VISITORS).open("ab", buffering=0)
        before = Visitors(directory / VISITORS, self._wanted)
        before.look()
        self._number = len(before.came)
        self._receipts = [receipt for left in before.left for receipt in left.receipts]
        self._stopped = asyncio.Event()
        self._terminal: Terminal | None = None

    def stop(self) -> None:
        """Let the citizen who is served be the last."""
        self._stopped.set()

    def hang_up(self) -> None:
        """Break the connection to the daemon off."""
        if self._terminal is not None:
            self._terminal.wire._writer.transport.abort()  # noqa: SLF001 - a client never does that in order

    async def run(self) -> None:
        """Serve until stopped, on a new connection whenever one is lost."""
        try:
            while not self._stopped.is_set():
                with suppress(ClientError, RpcError):
                    async with connect(self._files.api) as terminal:
                        self._terminal = terminal
                        await self._connected(terminal)
                self._terminal = None
                await self._pause(_RECONNECT_SECONDS)
        finally:
            self._ledger.close()
            self._visitors.close()

    async def _connected(self, terminal: Terminal) -> None:
        ears = Ears(terminal)
        listening = asyncio.create_task(ears.listen(), name="hall ears")
        beating = asyncio.create_task(_beat(terminal), name="hall heartbeat")
        try:
            while not (self._stopped.is_set() or listening.done()):
                is_served = await self._next(terminal, ears)
                await self._pause(PAUSE_SECONDS if is_served else TURNED_AWAY_SECONDS)
        finally:
            for task in (listening, beating):
                task.cancel()
            await asyncio.gather(listening, beating, return_exceptions=True)

    async def _next(self, terminal: Terminal, ears: Ears) -> bool:
        """Let the next citizen come; return whether they were served."""
        number, self._number = self._number, self._number + 1
        choice = luck(self._seed, number)
        visit = self._visit(choice.choice(VISITS))
        self._ledger.citizen, self._ledger.visit = number, visit
        await self._tidy()
        receipts = list(self._receipts)
        citizen = Citizen(number, terminal, self._hand, ears, self._ledger, choice, receipts)
        loop = asyncio.get_running_loop()
        write(self._visitors, Came(number, visit, loop.time()))
        why = None
        try:
            await citizen.visit(visit)
        except (NotServed, ControlError, TimeoutError) as error:
            why = str(error) or "nothing happened"
        given = receipts[len(self._receipts) :]
        self._receipts = receipts
        write(self._visitors, Left(number, loop.time(), why, given))
        return why is None

    def _visit(self, otherwise: Visit) -> Visit:
        with suppress(FileNotFoundError):
            wanted = self._wanted.read_text(encoding="ascii")
            return next((visit for visit in VISITS if visit == wanted), otherwise)
        return otherwise

    async def _tidy(self) -> None:
        """Take what the one before left at the devices, as whoever went away without it comes back for it."""
        for device, verb in (("idcard", "remove_card"), ("cardreader", "take_card"), ("pinpad", "clear")):
            with suppress(ControlError):
                await self._hand.do(device, verb)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()


async def _beat(terminal: Terminal) -> None:
    """Say as often as the daemon asks for that the UI lives; ends with the connection."""
    with suppress(ClientError, RpcError):
        beat = await terminal.ui_heartbeat()
        while True:
            await asyncio.sleep(beat.seconds)
            beat = await terminal.ui_heartbeat()


async def _serve(config: Path) -> None:
    hall = Hall(config)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, hall.stop)
    loop.add_signal_handler(signal.SIGUSR1, hall.hang_up)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await hall.run()


def main() -> None:
    """Serve citizens until SIGTERM; the line `ready` on standard output says that the first one comes."""
    parser = argparse.ArgumentParser(prog="python -m sim.soak.hall", description="Let citizens come to a terminal.")
    parser.add_argument("--config", type=Path, required=True, help="the rig's own configuration")
    arguments = parser.parse_args()
    end_with_parent()
    asyncio.run(_serve(arguments.config))


if __name__ == "__main__":
    main()
