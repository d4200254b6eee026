"""The independent reader of docs/examples/wire opens the document's vectors in Node, no meddled ones (T20, H12)."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.transport.wire_document import DOCUMENT, MESSAGES

EXAMPLE = Path(__file__).parents[2] / "docs/examples/wire"

Reader = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Reader:
    """Install the packages of the lock file beside a copy of the reader, and run it on a document."""
    directory = tmp_path_factory.mktemp("reader")
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, directory)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(install, cwd=directory, check=True, timeout=100, env={**os.environ, "CI": "1"})

    def read(document: str) -> "subprocess.CompletedProcess[str]":
        (directory / "document.md").write_text(document, encoding="utf-8")
        command = ["node", "reader.mjs", "document.md"]
        return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=30)

    return read


def _shown(value):
    """A stated value as JSON has it."""
    match value:
        case bytes():
            return "0x" + value.hex()
        case list():
            return [_shown(item) for item in value]
    return value


def test_it_reads_every_message_as_the_document_states_it(reader):
    done = reader(DOCUMENT)
    assert (done.returncode, done.stderr) == (0, "")
    read = [line.split(" ", 1) for line in done.stdout.splitlines()]
    stated = [(message.topic, _shown(message.contents)) for message in MESSAGES]
    assert [(topic, json.loads(contents)) for topic, contents in read] == stated


@pytest.mark.parametrize("number", range(1, len(MESSAGES)), ids=[one.topic.split("/", 3)[3] for one in MESSAGES[1:]])
def test_it_refuses_a_flipped_bit(reader, number):
    """The last bit of each: of a tag, or of a signature."""
    payload = MESSAGES[number].payload
    flipped = payload[:-1] + bytes([payload[-1] ^ 1])
    done = reader(DOCUMENT.replace(payload.hex(), flipped.hex()))
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == number


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("GT-0001/up/call", "GT-0002/up/call", "tag"),
        ("GT-0001/up/call", "GT-0001/up/record", "tag"),
        ("GT-0001/down/receipt", "GT-0001/up/receipt", "tag"),
    ],
    ids=["another terminal", "another stream", "another direction"],
)
def test_it_refuses_an_envelope_at_another_place(reader, old, new, reason):
    done = reader(DOCUMENT.replace(f"= govterm/v1/{old}\n", f"= govterm/v1/{new}\n"))
    assert done.returncode == 1
    assert reason in done.stderr


def test_it_refuses_a_replay(reader):
    block = next(
        part for part in DOCUMENT.split("```message\n") if part.startswith("topic    = govterm/v1/GT-0001/up/call")
    )
    done = reader(f"{DOCUMENT}\n```message\n{block.split('```')[0]}```\n")
    assert done.returncode == 1
    assert "replayed or reordered" in done.stderr
    assert len(done.stdout.splitlines()) == len(MESSAGES)


def test_it_is_as_short_as_it_says_and_its_packages_are_exact():
    assert len((EXAMPLE / "reader.mjs").read_text().splitlines()) <= 60
    packages = json.loads((EXAMPLE / "package.json").read_text())["dependencies"]
    locked = json.loads((EXAMPLE / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in packages} == packages
    assert all("integrity" in entry for name, entry in locked.items() if name)
