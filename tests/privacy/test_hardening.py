"""What the processes keep from others before they see a citizen: their memory, core dumps, swap (T20)."""

import resource
import subprocess
import sys
import textwrap

import pytest

NOBODY = 65_534
DAEMON = "import runtime.process; runtime.process.harden()"
VISION = "import vision.guard; vision.guard.die_with_parent()"
MEMLOCK_BYTES = 8 * 2**20


def run(program: str, **arguments: int) -> str:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, **arguments).stdout.strip()


@pytest.mark.parametrize(
    ("hardening", "answer"), [("pass", "read"), (DAEMON, "PermissionError"), (VISION, "PermissionError")]
)
def test_no_process_of_the_same_user_reads_the_memory(hardening: str, answer: str) -> None:
    """Tried as another process of the user of the same id, and not as root, which nothing keeps out; the first form
    shows that it is the hardening that refuses."""
    assert answer == run(
        f"""
        import codecs, ctypes, os, runtime.process, vision.guard
        codecs.lookup("ascii")  # nobody may not read this Python's library
        ready, said = os.pipe()
        go, wait = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable again, as a service's process begins
            {hardening}
            os.write(said, b"1"); os.close(wait); os.read(go, 1); os._exit(0)
        os.close(said); os.close(go)
        assert os.read(ready, 1) == b"1"
        os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
        try:
            with open(f"/proc/{{child}}/maps") as maps:
                start = int(maps.readline().partition("-")[0], 16)
            with open(f"/proc/{{child}}/mem", "rb", buffering=0) as memory:
                memory.seek(start)
                print("read" if memory.read(4) == b"\\x7fELF" else "something else")
        except PermissionError:
            print("PermissionError")
        """
    )


@pytest.mark.parametrize("hardening", [DAEMON, VISION])
def test_there_is_no_core_dump(hardening: str) -> None:
    said = run(f"{hardening}\nimport ctypes, resource\nprint(ctypes.CDLL(None).prctl(3), resource.getrlimit(4))")
    assert resource.RLIMIT_CORE == 4
    assert said == "0 (0, 0)"


@pytest.mark.parametrize("hardening", [DAEMON, VISION])
def test_what_is_touched_is_locked_where_nothing_limits_it(hardening: str) -> None:
    """All of it, and free memory still goes back to the kernel, which takes no locked page."""
    said = run(
        f"""
        {hardening}
        from vision.memory_lock import give_back, is_locked
        from pathlib import Path
        def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        assert is_locked()
        small = [bytes([1]) * 50_000 for _ in range(1_000)]
        held = small[::100]
        full = resident()
        del small
        give_back()
        print(is_locked(), (full - resident()) // 2**20 >= 30)
        """
    )
    assert said == "True True"


def test_under_a_limit_nothing_is_locked_and_every_allocation_goes_on() -> None:
    """A limit counts addresses, not what is touched: locking under one would make a later allocation fail."""
    said = run(
        f"""
        import codecs, os, resource
        codecs.lookup("ascii")
        from vision.memory_lock import is_locked, lock_memory
        resource.setrlimit(resource.RLIMIT_MEMLOCK, ({MEMLOCK_BYTES}, {MEMLOCK_BYTES}))
        os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
        print(lock_memory(), is_locked(), len(bytes(100_000_000)))
        """
    )
    assert said == "False False 100000000"
