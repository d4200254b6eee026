"""`govterm audit` on a copy, without a daemon, and what docs/audit.md gives somebody else (H7)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from runtime.audit_chain import LOST, Seal, digest
from runtime.cli import app
from tests.runtime.audit_rig import KEY, OTHER_KEY, made

DOCUMENT = Path(__file__).parents[2] / "docs/audit.md"
FIRST, SECOND = "2027-01-15", "2027-01-16"
"""The first two days of the log."""


@pytest.fixture
def log(tmp_path) -> tuple[Path, list[Seal]]:
    directory, seals = made(tmp_path / "state")
    (tmp_path / "identity.der").write_bytes(KEY.to_der())
    (tmp_path / "seals.jsonl").write_bytes(b"".join(msgspec.json.encode(seal) + b"\n" for seal in seals))
    return directory, seals


def govterm(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    return done.exit_code, done.output


def test_the_log_verifies_with_the_terminals_key_and_the_platforms_seals(log, tmp_path):
    directory, _ = log
    code, said = govterm(
        *("verify", "--directory", directory, "--key", tmp_path / "identity.der"), "--seals", tmp_path / "seals.jsonl"
    )
    assert code == 0
    assert "14 lines follow" in said
    assert "3 seals are by this key, the last of 2027-01-18" in said
    assert "2 lines at the end are not sealed yet" in said


@pytest.mark.parametrize("change", ["altered", "cut", "gone", "other key", "no key", "no seals"])
def test_what_does_not_verify_is_exit_code_1_and_one_line(log, tmp_path, change):
    directory, _ = log
    path, key, seals = directory / "audit.jsonl", tmp_path / "identity.der", tmp_path / "seals.jsonl"
    match change:
        case "altered":
            path.write_bytes(path.read_bytes().replace(b"uid 2", b"uid 3"))
        case "cut":
            path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:8]) + b"\n")
        case "gone":
            path.unlink()
        case "other key":
            key.write_bytes(OTHER_KEY.public.to_der())
        case "no key":
            key.write_bytes(b"nothing")
        case "no seals":
            seals.write_text("nothing\n")
    code, said = govterm("verify", "--directory", directory, "--key", key, "--seals", seals)
    assert code == 1
    assert "lines follow" not in said
    assert re.search(r"\((audit\.[a-z_]+|sm2\.bad_key)\)", said)


def test_a_log_with_a_loss_that_the_daemon_told_is_exit_code_1_and_says_which_line(log, tmp_path):
    path = log[0] / "audit.jsonl"
    line = {"at": 0.0, "event": LOST, "actor": "daemon", "details": {"code": "audit.truncated"}}
    last = path.read_bytes().splitlines()[-1]
    with path.open("ab") as file:
        file.write(msgspec.json.encode(line | {"previous": digest(last)}) + b"\n")
    code, said = govterm("verify", "--directory", log[0], "--key", tmp_path / "identity.der")
    assert code == 1
    assert "15 lines follow" in said
    assert "line 15 says that the daemon found lines before it gone" in said


def test_right_behind_a_closed_file_the_log_verifies_and_is_exported(log, tmp_path):
    directory, key = log[0], tmp_path / "identity.der"
    (directory / "audit.jsonl").rename(directory / "audit-000000000014.jsonl")
    assert govterm("verify", "--directory", directory, "--key", key)[0] == 0
    where = ("--directory", directory, "--output", tmp_path / "export.jsonl")
    assert govterm("export", "--from", FIRST, "--to", SECOND, *where)[0] == 0


def test_each_key_that_a_terminal_has_had_is_given(log, tmp_path):
    other = tmp_path / "other.der"
    other.write_bytes(OTHER_KEY.public.to_der())
    assert govterm("verify", "--directory", log[0], "--key", other)[0] == 1
    assert govterm("verify", "--directory", log[0], "--key", other, "--key", tmp_path / "identity.der")[0] == 0


def test_a_key_that_is_no_base64_is_one_line(tmp_path):
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n")
    code, said = govterm("key", "--key", key)
    assert (code, "sm2.bad_key" in said) == (1, True)


def exported(log, tmp_path, *days: str) -> tuple[Path, Path]:
    """Return an export and the public key, as somebody else gets them."""
    export, key = tmp_path / "export.jsonl", tmp_path / "key.pem"
    begins, ends = days
    where = ("--directory", log[0], "--output", export)
    assert govterm("export", "--from", begins, "--to", ends, *where)[0] == 0
    code, pem = govterm("key", "--key", tmp_path / "identity.der")
    assert code == 0
    key.write_text(pem)
    return export, key


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program of docs/audit.md."""
    (source,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(source.splitlines()) <= 30
    command = [sys.executable, "-c", source, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_export_verifies_by_the_public_key_alone_with_govterm_and_without(log, tmp_path):
    export, key = exported(log, tmp_path, SECOND, SECOND)
    assert len(export.read_bytes().splitlines()) == 5
    assert export.stat().st_mode & 0o777 == 0o600
    code, said = govterm("verify", export, "--key", key)
    assert (code, "5 lines follow from each other, after 3 older ones" in said) == (0, True)
    assert govterm("verify", export, "--key", key, "--seals", tmp_path / "seals.jsonl")[0] == 0
    done = program(export, key)
    assert (done.returncode, done.stdout) == (0, "5 of 5 lines are sealed and unchanged\n")


@pytest.mark.parametrize("change", ["altered", "removed", "other key"])
def test_an_export_that_was_changed_verifies_nowhere(log, tmp_path, change):
    export, key = exported(log, tmp_path, FIRST, SECOND)
    lines = export.read_bytes().splitlines(keepends=True)
    match change:
        case "altered":
            export.write_bytes(b"".join(lines).replace(b"uid 1", b"uid 7"))
        case "removed":
            export.write_bytes(b"".join(lines[:2] + lines[3:]))
        case "other key":
            (tmp_path / "identity.der").write_bytes(OTHER_KEY.to_der())
            key.write_text(govterm("key", "--key", tmp_path / "identity.der")[1])
    assert govterm("verify", export, "--key", key)[0] == 1
    assert program(export, key).returncode != 0


def test_an_export_replaces_no_file_and_of_days_without_a_line_there_is_none(log, tmp_path):
    export, _ = exported(log, tmp_path, FIRST, FIRST)
    before = export.read_bytes()
    where = ("--directory", log[0], "--output", export)
    assert govterm("export", "--from", FIRST, "--to", SECOND, *where)[0] == 1
    assert export.read_bytes() == before
    code, said = govterm("export", "--from", "2020-01-01", "--to", "2020-01-02", "--directory", log[0], "--output", "x")
    assert (code, "there is no line of these days" in said) == (1, True)


def test_the_content_that_is_signed_is_the_documents(log):
    """docs/audit.md shows the six lines."""
    line = json.loads((log[0] / "audit.jsonl").read_bytes().splitlines()[3])
    (shown,) = re.findall(r"```text\n(govterm-audit-seal.*?)```", DOCUMENT.read_text(), re.DOTALL)
    values = line["details"] | {"previous of the seal's line": line["previous"]}
    content = re.sub(r"<(.*?)>", lambda found: str(values[found[1]]), shown)
    KEY.public.verify(bytes.fromhex(line["details"]["signature"]), content.encode())
