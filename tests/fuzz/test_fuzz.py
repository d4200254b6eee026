"""Any bytes into any codec of a device: total, bounded, back in step, by a coverage-guided fuzzer."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.fuzz.codecs import CODECS, TARGETS

SHORT_SECONDS = 10
LONG_SECONDS = int(os.environ.get("FUZZ_SECONDS", "3600"))
AT_ONCE = 2


async def fuzz(name: str, seconds: int, seed: int, directory: Path) -> str | None:
    """Fuzz one codec; return what it reported when it failed.

    A shell is between: a program's peak memory, which libFuzzer limits, begins with that of what started it.
    """
    corpus = directory / name
    corpus.mkdir()
    if name in CODECS:
        (corpus / "good").write_bytes(b"\x07" + 3 * CODECS[name].good)
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-m", "tests.fuzz.fuzz_codecs", name, str(corpus)),
        *(f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=512"),
        "-print_final_stats=1",
        f"-artifact_prefix={directory / name}-",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    text = said.decode(errors="replace")
    print(name, process.returncode, *(line.removeprefix("stat::") for line in text.splitlines() if "stat::" in line))
    return f"{name}: {text[-4000:]}" if process.returncode else None


async def fuzz_all(seconds: int, seed: int, directory: Path) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> str | None:
        async with turns:
            return await fuzz(name, seconds, seed, directory)

    failures = [failure for failure in await asyncio.gather(*map(one, TARGETS)) if failure is not None]
    assert not failures, "\n".join(failures)


def test_every_codec_is_a_target() -> None:
    """A new protocol module gets a line in the table."""
    root = Path(__file__).parents[2] / "devices"
    modules = {path.relative_to(root) for path in root.glob("*/*protocol.py")}
    named = {
        Path(name, "protocol.py") if "." not in name else Path(name.replace(".", "/") + "_protocol.py")
        for name in CODECS
    }
    assert modules == named


async def test_fuzz_every_codec(tmp_path: Path) -> None:
    """Ten seconds each, two at a time, from a fixed seed."""
    await fuzz_all(SHORT_SECONDS, 1, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(0)
async def test_fuzz_every_codec_for_an_hour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """FUZZ_SECONDS each (an hour), from a new seed each time; how it went is told, also when all is well."""
    with capsys.disabled():
        await fuzz_all(LONG_SECONDS, 0, tmp_path)
