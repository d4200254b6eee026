"""The write guard, each case in a process of its own: an audit hook is for ever (T20)."""

import json
import subprocess
import sys

import pytest

PROLOGUE = """
import atexit, os, sys, sqlite3, tempfile, subprocess, shutil
from pathlib import Path
from runtime import guard, logs
handler = logs.install()
atexit.register(handler.close)
sys.excepthook = lambda *error: (handler.close(), sys.__excepthook__(*error))  # the log's lines stay whole
home = Path({home!r})
guard.install([home / "journal.db", home / "journal.db-wal", home / "audit.jsonl", home / "port", home / "set-*"])
"""


def run(tmp_path, code):
    program = PROLOGUE.format(home=str(tmp_path)) + code
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return done, lines


@pytest.mark.parametrize(
    ("code", "operation"),
    [
        ("open(home / 'x', 'w')", "open"),
        ("open(home / 'x', 'ab')", "open"),
        ("open(home / 'old', 'r+')", "open"),
        ("os.open(home / 'x', os.O_WRONLY | os.O_CREAT)", "open"),
        ("os.open(bytes(home / 'x'), os.O_RDWR | os.O_CREAT)", "open"),
        ("os.open('x', os.O_WRONLY | os.O_CREAT, dir_fd=os.open(home, os.O_RDONLY))", "open"),
        ("os.open(home, os.O_TMPFILE | os.O_WRONLY)", "open"),
        ("(home / 'x').write_text('name')", "open"),
        ("(home / 'set').write_text('name')", "open"),
        ("(home / 'set-x/y').write_text('name')", "open"),
        ("sqlite3.connect(f'file:{home}/x?mode=rw', uri=True)", "sqlite3.connect"),
        ("sqlite3.connect(f'file:{home}/x?mode=rwc&mode=ro', uri=True)", "sqlite3.connect"),
        ("tempfile.TemporaryFile(dir=home)", "open"),
        ("(home / 'x').mkdir()", "os.mkdir"),
        ("os.rename(home / 'old', home / 'x')", "os.rename"),
        ("os.link(home / 'old', home / 'x')", "os.link"),
        ("os.symlink('name', home / 'x')", "os.symlink"),
        ("os.truncate(home / 'old', 0)", "os.truncate"),
        ("sqlite3.connect(home / 'other.db')", "sqlite3.connect"),
    ],
)
def test_writing_anything_else_is_refused_and_told_without_the_name(tmp_path, code, operation):
    (tmp_path / "old").write_text("kept")
    done, lines = run(tmp_path, code)
    assert "PermissionError" in done.stderr
    assert done.returncode == 1
    assert {(line["event"], line["operation"]) for line in lines} == {("write_refused", operation)}
    assert lines[0]["caller"].startswith("__main__:")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
    assert (tmp_path / "old").read_text() == "kept"


def test_what_is_allowed_works(tmp_path):
    device = tmp_path / "ttyUSB7"
    device.write_text("")
    (tmp_path / "port").symlink_to(device)
    done, lines = run(
        tmp_path,
        """
database = sqlite3.connect(home / "journal.db")
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE t (x)")
sqlite3.connect(":memory:").close()
(home / "set-1").write_text("one")
os.write(os.open(home / "port", os.O_RDWR), b"1")
os.write(os.open(home / "ttyUSB7", os.O_RDWR), b"2")
open(home / "audit.jsonl", "a").close()
sqlite3.connect(f"file:{home}/audit.jsonl?mode=ro", uri=True).close()
open("/dev/null", "w").close()
open(__import__("os").__file__).close()
os.chdir(home); open("audit.jsonl", "a").close()
subprocess.run(["true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
""",
    )
    assert (done.returncode, lines, done.stderr) == (0, [], "")
    assert device.read_text() == "2"


def test_a_device_may_come_back_under_another_name(tmp_path):
    (tmp_path / "ttyUSB0").write_text("")
    (tmp_path / "ttyUSB1").write_text("")
    (tmp_path / "port").symlink_to("ttyUSB0")
    done, _ = run(
        tmp_path,
        f"""
import ctypes
os.write(os.open(home / "port", os.O_RDWR), b"1")
os.unlink(home / "port")
ctypes.CDLL(None).symlink(b"ttyUSB1", {bytes(tmp_path / "port")!r})
os.write(os.open(home / "port", os.O_RDWR), b"1")
""",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ttyUSB1").read_text() == "1"


def test_imports_write_no_byte_code_and_raise_no_alarm(tmp_path):
    package = tmp_path / "lib"
    package.mkdir()
    (package / "fresh.py").write_text("value = 1")
    done, lines = run(tmp_path, f"sys.path.insert(0, {str(package)!r})\nimport fresh")
    assert (done.returncode, lines) == (0, [])
    assert [path.name for path in package.iterdir()] == ["fresh.py"]
