"""The rig's enrolment desk, and docs/enrolment.md followed line by line (T20, H8, H12)."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runtime import cli, hardware
from sim.cli import rig
from sim.enrolment import Desk
from transport import sm2
from transport.errors import TransportError

DOCUMENT = (Path(__file__).parents[2] / "docs/enrolment.md").read_text()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """Run in a directory of its own, on a machine that has a name."""
    monkeypatch.chdir(tmp_path)
    Path("etc").mkdir()
    Path("etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(hardware.hardware_names, "__defaults__", (tmp_path,))


def run(line: str, platform: str = ""):
    words = shlex.split(line.replace("$PLATFORM", platform))
    assert words[0] == "govterm"
    app, words = (rig, words[2:]) if words[1] == "rig" else (cli.app, words[1:])
    return CliRunner().invoke(app, words)


def said(output: str, what: str) -> str:
    (line,) = re.findall(rf"^{what} +(.*)$", output, re.MULTILINE)
    return line


def lines() -> list[str]:
    (block,) = re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    return block.splitlines()


def test_the_documents_commands_from_the_rig_to_the_wiping():
    init, request, enroll, accept, show, wipe = lines()
    assert run(init).exit_code == 0
    requested = run(request)
    answered = run(enroll)
    assert (requested.exit_code, answered.exit_code) == (0, 0), answered.stderr
    assert said(requested.stdout, "identity") == said(answered.stdout, "identity")
    accepted = run(accept, said(answered.stdout, "platform"))
    assert accepted.exit_code == 0, accepted.stderr
    assert accepted.stdout.startswith('[platform]\nhost = "127.0.0.1"\n')
    assert said(run(show).stdout, "platform") == said(answered.stdout, "platform")
    desk = Desk(Path("my-rig/trust"))
    assert set(desk.terminals()) == {"HALL-0001", "RIG-0001"}
    identity = sm2.PrivateKey.from_der(Path("credentials/identity.der").read_bytes())
    assert desk.terminals()["HALL-0001"].point == identity.public.point
    assert run(wipe).exit_code == 0
    assert list(Path("credentials").iterdir()) == []


def test_the_documents_table_names_every_refusal_of_the_terminal():
    refusals = set(re.findall(r"`((?:enroll|sm2)\.\w+)`", DOCUMENT.split("The terminal verifies")[1].split("Dates")[0]))
    raised = set(re.findall(r'"(enroll\.\w+)"', (Path(__file__).parents[2] / "transport/enrolment.py").read_text()))
    assert raised - refusals == {"enroll.malformed", "enroll.bad_fingerprint"}
    assert refusals - raised == {"enroll.bad_certificate", "sm2.bad_key"}


def test_a_terminal_that_comes_again_gets_its_new_key_known():
    init, request, enroll, *_, wipe = lines()
    for line in (init, request, enroll, wipe):
        assert run(line).exit_code == 0
    first = Desk(Path("my-rig/trust")).terminals()["HALL-0001"].point
    again = run(request.replace(".request", ".second"))
    assert again.exit_code == 0
    refused = run(enroll.replace(".request", ".second"))
    assert refused.exit_code == 1
    assert "File exists" in refused.stderr
    assert Desk(Path("my-rig/trust")).terminals()["HALL-0001"].point == first, "without an answer nothing is entered"
    answered = run(enroll.replace(".request", ".second").replace(".answer", ".second-answer"))
    assert "no longer counts" in answered.stdout
    assert Desk(Path("my-rig/trust")).terminals()["HALL-0001"].point != first


def test_a_request_that_is_none_is_refused():
    init, _, enroll, *_ = lines()
    assert run(init).exit_code == 0
    Path("HALL-0001.request").write_bytes(b"none")
    refused = run(enroll)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert not Path("HALL-0001.answer").exists()
    Path("HALL-0001.request").unlink()
    assert "No such file" in run(enroll).stderr


def test_the_desk_is_never_made_twice(tmp_path):
    Desk.make(tmp_path / "desk")
    with pytest.raises(FileExistsError):
        Desk.make(tmp_path / "desk")


def test_the_desk_answers_no_request_that_is_not_sound(tmp_path):
    desk = Desk.make(tmp_path / "desk")
    with pytest.raises(TransportError) as caught:
        desk.answer(b"none", "127.0.0.1", 8883)
    assert caught.value.code == "enroll.malformed"
    assert desk.terminals() == {}
