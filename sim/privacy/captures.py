"""What a tester records of the devices that read the citizen's cards, with `govterm capture` (T20, T21)."""

import asyncio
import re
import sys
from pathlib import Path

from sim.privacy import planted
from sim.privacy.report import Capture
from sim.privacy.stage import Stage
from sim.privacy.visit import CITIZEN, FACE, FINGER

KINDS = ("idcard", "cardreader")
_UNMASKED = (
    "import devices.capture\n"
    "from devices.masking.plain import UpsMask\n"
    "devices.capture.make_mask = lambda kind: UpsMask()\n"
)
_COMMAND = "from runtime.cli import main\nmain()\n"
_READ = re.compile(r"passed .* s  read a (bank )?card: ")
_SECONDS = 60.0


async def is_refused(stage: Stage) -> bool:
    """Return whether a port that the daemon holds cannot be recorded."""
    file = stage.rig.files.directory / "refused.jsonl"
    process = await _capture(stage, "idcard", file, before="")
    async with asyncio.timeout(_SECONDS):
        await process.communicate()
    return process.returncode != 0 and not file.exists()


async def record(stage: Stage, *, masked: bool) -> dict[str, Capture]:
    """Record both card readers, the daemon being gone, while the citizen lays down and inserts his cards.

    The recordings lie beside the rig's files. `masked` False records what the wire says as it is.
    """
    made = await asyncio.gather(*(_record(stage, kind, "" if masked else _UNMASKED) for kind in KINDS))
    return dict(zip(KINDS, made, strict=True))


async def _record(stage: Stage, kind: str, before: str) -> Capture:
    file = stage.rig.files.directory / f"capture-{kind}.jsonl"
    process = await _capture(stage, kind, file, before)
    was_read = False
    async with asyncio.timeout(_SECONDS):
        while process.stderr is not None and (line := (await process.stderr.readline()).decode()):
            was_read |= _READ.match(line) is not None
            if "lay an ID card" in line:
                await _lay_card(stage)
            elif "insert a bank card" in line:
                await stage.visit.hand.soon("cardreader", "insert_card", number=planted.NUMBER)
                await stage.visit.hand.soon("cardreader", "take_card")
        await process.wait()
    return Capture(file.stat().st_size if file.exists() else 0, was_read)


async def _lay_card(stage: Stage) -> None:
    await stage.visit.hand.do("idcard", "place_card", citizen=CITIZEN, photo=FACE)
    await stage.visit.hand.do("idcard", "store_fingers", positions=[FINGER], features=planted.FINGER.hex())


async def _capture(stage: Stage, kind: str, file: Path, before: str) -> asyncio.subprocess.Process:
    arguments = ("capture", stage.rig.files.port(kind), file, "--kind", kind, "--hand")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", before + _COMMAND, *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
