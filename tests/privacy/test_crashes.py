"""Nothing of an error's text, and no value but the plainest, leaves a process that fails (T20): kinds and places."""

import json
import subprocess
import sys
from typing import Any

import pytest

SECRET = "欧阳修远"  # noqa: S105 - of a citizen who does not exist
_BEGIN = f"""
import asyncio, logging, sys, threading, warnings
from vision.crashes import KindHandler, tell_by_kind
SECRET = {SECRET!r}
def fail(*_, **__):
    raise ValueError(SECRET)
"""
_LIBRARIES = "logging.captureWarnings(capture=True)\nlogging.getLogger().addHandler(KindHandler(logging.WARNING))\n"
_DAEMON = "from runtime import logs\nhandler = logs.install()\n"
_LOST_TASK = """
async def main():
    lost = asyncio.ensure_future(asyncio.to_thread(fail))
    await asyncio.wait([lost])
asyncio.run(main())
"""

_GROUP = """
async def task():
    fail()
async def main():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(task())
asyncio.run(main())
"""


def said(program: str) -> list[dict[str, Any]]:
    """Run a program and return the lines of its standard error, none of which holds the secret."""
    done = subprocess.run([sys.executable, "-c", _BEGIN + program], capture_output=True, text=True, check=False)
    assert SECRET not in done.stderr
    assert repr(SECRET.encode()) not in done.stderr
    assert json.dumps(SECRET)[1:-1] not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("program", "event"),
    [
        ("fail()", "uncaught"),
        ("thread = threading.Thread(target=fail)\nthread.start()\nthread.join()", "uncaught_in_thread"),
        ("class Odd:\n    __del__ = fail\nOdd()", "uncaught_in_finaliser"),
        (_GROUP, "uncaught"),
        (_LIBRARIES + _LOST_TASK, "library_error"),
        (_LIBRARIES + "logging.getLogger('library').warning('of %s', SECRET)", "library_warning"),
        (_LIBRARIES + "warnings.warn(SECRET)", "library_warning"),
    ],
)
def test_what_nobody_caught_is_told_by_its_kind(program: str, event: str) -> None:
    (line,) = said("tell_by_kind()\n" + program)
    assert line["event"] == event
    assert line["level"] == ("warning" if "warning" in event else "error")
    if "warning" not in event:
        assert line["error"] == "ValueError"
        assert line["places"][-1].startswith("__main__.fail:")


def test_the_daemon_tells_a_lost_task_without_its_error() -> None:
    """asyncio prints the task with its error below the first line."""
    (line,) = said(_DAEMON + _LOST_TASK + "import gc; gc.collect(); handler.close()")
    assert line["event"] == "library_message"
    assert line["error"] == "ValueError"
    assert line["traceback"][-1].startswith("__main__.fail:")


def test_the_daemon_tells_a_callback_without_what_it_was_called_with() -> None:
    program = """
async def main():
    asyncio.get_running_loop().call_soon(lambda value: fail(), SECRET)
    await asyncio.sleep(0)
asyncio.run(main())
handler.close()
"""
    (line,) = said(_DAEMON + program)
    assert line["error"] == "ValueError"
    assert line["text"].startswith("Exception in callback")


def test_the_daemon_tells_of_a_warning_its_category_alone() -> None:
    (line,) = said(_DAEMON + "warnings.warn(SECRET); handler.close()")
    assert line["text"].endswith(": UserWarning")


def test_a_thread_that_leaves_is_no_failure() -> None:
    assert said("tell_by_kind()\nthread = threading.Thread(target=sys.exit)\nthread.start()\nthread.join()") == []


def test_the_vision_process_logs_plain_values_alone() -> None:
    """Pixels, bytes, messages of the line and errors are named by their type."""
    program = """
import socket, sys, types
import vision.worker
async def serve(*_, **__):
    import structlog, numpy, msgspec
    from vision import wire
    data = SECRET.encode()
    structlog.get_logger("vision.test").error(
        "told", data=data, pixels=numpy.frombuffer(data, numpy.uint8), message=wire.Verify(1, data, 1.0),
        error=ValueError(SECRET), several=[SECRET], code="vision.failed", seconds=1.5,
    )
vision.worker.serve = serve
left, right = socket.socketpair()
sys.argv = ["vision", str(left.fileno())]
from vision.__main__ import main
main()
"""
    (line,) = said(program)
    assert (line["code"], line["seconds"]) == ("vision.failed", 1.5)
    shown = {name: line[name] for name in ("data", "pixels", "message", "error", "several")}
    assert shown == {
        "data": "<bytes>",
        "pixels": "<ndarray>",
        "message": "<Verify>",
        "error": "<ValueError>",
        "several": "<list>",
    }


@pytest.mark.parametrize(
    "program",
    [
        """
import socket, sys
import vision.worker
vision.worker.serve = fail
left, right = socket.socketpair()
sys.argv = ["vision", str(left.fileno())]
from vision.__main__ import main
main()
""",
        """
import sys
from runtime import process
process._serve = fail
sys.argv = ["runtime", "--config", "none.toml"]
process.main()
""",
    ],
    ids=["vision", "daemon"],
)
def test_both_processes_tell_their_own_end_by_its_kind(program: str) -> None:
    line = said(program)[-1]
    assert (line["event"], line["error"]) == ("uncaught", "ValueError")
