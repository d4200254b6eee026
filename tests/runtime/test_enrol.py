"""`govterm enroll` from the request to the wiping: all or nothing, a coded refusal for everything else (T20, H8)."""

import os
import stat
import tomllib
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from runtime import cli, credentials, hardware
from runtime.config import open_to_others
from runtime.hardware import hardware_name
from sim.enrolment import Desk
from transport.certificate import SigningCertificate
from transport.config import Platform
from transport.errors import TransportError
from transport.sm2 import PublicKey

FORCE = {"ca.pem", "terminal.pem", "platform.cer", "platform.der", "seal.der", "enrolment.json"}
KEYS = {"identity.der", "terminal.key"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Desk:
    return Desk.make(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def machine_id(tmp_path, monkeypatch) -> Path:
    """A board that tells no serial number."""
    file = tmp_path / "board/etc/machine-id"
    file.parent.mkdir(parents=True)
    file.write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(hardware.hardware_names, "__defaults__", (tmp_path / "board",))
    return file


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "credentials"


def enroll(*arguments, stdin=None):
    return CliRunner().invoke(cli.app, ["enroll", *map(str, arguments)], input=stdin, env={"COLUMNS": "200"})


def scalars(place: Path) -> tuple[bytes, bytes]:
    """Return the two private keys as bare numbers."""
    identity = (place / "identity.der").read_bytes()[36:68]
    tls = serialization.load_pem_private_key((place / "terminal.key").read_bytes(), None)
    return identity, tls.private_numbers().private_value.to_bytes(32, "big")


@pytest.fixture
def request_file(tmp_path, place, machine_id) -> Path:
    output = tmp_path / "request"
    done = enroll("request", "--terminal", "HALL-0001", "--output", output, "--directory", place)
    assert done.exit_code == 0, done.stderr
    return output


@pytest.fixture
def answer_file(tmp_path, desk, request_file) -> Path:
    answer = tmp_path / "answer"
    answer.write_bytes(desk.answer(request_file.read_bytes(), "broker.example.gov.cn", 8883).message)
    return answer


def accept(place, answer, fingerprint):
    return enroll("accept", answer, "--fingerprint", fingerprint, "--directory", place)


def listed(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refused(done, code: str) -> str:
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith(f"({code})\n")
    assert done.stderr.startswith("govterm: ")
    return done.stderr


def test_the_request_makes_keys_that_root_alone_reads(place, request_file):
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {path.name for path in place.iterdir()} == KEYS | {"request.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o400}
    assert not any(scalar in request_file.read_bytes() for scalar in scalars(place))


def test_the_fingerprints_at_both_ends_are_one(desk, place, request_file):
    """What is read out at the terminal is what the operator sees."""
    shown = enroll("show", "--directory", place).stdout
    answered = desk.answer(request_file.read_bytes(), "broker.example.gov.cn", 8883)
    assert answered.fingerprint in shown
    assert "waits for the answer" in shown


def test_the_machine_id_does_not_leave(desk, request_file, machine_id):
    """H8: the platform learns a name derived from it."""
    secret = machine_id.read_text().strip()
    request = request_file.read_bytes()
    assert secret.encode() not in request
    assert bytes.fromhex(secret) not in request
    assert hardware_name().name.encode() in request


def test_a_board_without_a_serial_number_is_told(tmp_path, place, machine_id):
    """H8: a copied card has its machine id, so the operator is to know."""
    output = tmp_path / "request"
    done = enroll("request", "--terminal", "HALL-0001", "--output", output, "--directory", place)
    assert f"hardware  {hardware_name().name} (machine_id)\n" in done.stdout
    assert "Warning: this board tells no serial number" in done.stderr


def test_a_boards_serial_number_goes_into_the_request_and_the_section(desk, tmp_path, place, machine_id):
    serial = tmp_path / "board/sys/devices/virtual/dmi/id/product_serial"
    serial.parent.mkdir(parents=True)
    serial.write_text("PF3K7QX1\n")
    output, answer = tmp_path / "request", tmp_path / "answer"
    done = enroll("request", "--terminal", "HALL-0001", "--output", output, "--directory", place)
    assert f"hardware  {hardware_name().name} (product_serial)\n" in done.stdout
    assert "Warning" not in done.stderr
    answered = desk.answer(output.read_bytes(), "broker", 8883)
    assert answered.hardware == hardware_name().name
    answer.write_bytes(answered.message)
    section = tomllib.loads(accept(place, answer, desk.fingerprint).stdout)["platform"]
    assert section["hardware"] == hardware_name().name
    assert hardware_name().name in enroll("show", "--directory", place).stdout


@pytest.mark.parametrize("content", [None, "", "uninitialized\n", "0123\n"])
def test_a_machine_without_a_name_is_told(tmp_path, place, machine_id, content):
    machine_id.unlink()
    if content is not None:
        machine_id.write_text(content)
    done = enroll("request", "--terminal", "HALL-0001", "--output", tmp_path / "request", "--directory", place)
    assert "systemd-machine-id-setup" in refused(done, "enroll.no_machine_id")
    assert not place.exists()


def test_an_answer_is_put_into_force(desk, place, answer_file):
    done = accept(place, answer_file, desk.fingerprint)
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in place.iterdir()} == KEYS | FORCE
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o400}
    certificate = SigningCertificate.from_der((place / "platform.cer").read_bytes())
    assert (place / "platform.der").read_bytes() == certificate.key.to_der() == desk.signing_key.public.to_der()
    assert PublicKey.from_der((place / "seal.der").read_bytes()).point == desk.seal_key.public.point
    record = (place / "enrolment.json").read_text()
    assert set(msgspec.json.decode(record)) == {
        *("terminal_id", "host", "port", "identity", "platform", "accepted_at", "hardware"),
    }
    shown = enroll("show", "--directory", place).stdout
    for said in ("HALL-0001", desk.fingerprint, "broker.example.gov.cn port 8883", str(certificate.not_after)):
        assert said in shown


def test_standard_output_is_the_section_and_nothing_else(desk, place, answer_file):
    done = accept(place, answer_file, desk.fingerprint)
    section = tomllib.loads(done.stdout)
    assert list(section) == ["platform"]
    platform = msgspec.convert(section["platform"], Platform)
    assert (platform.host, platform.port, platform.terminal_id) == ("broker.example.gov.cn", 8883, "HALL-0001")
    assert platform.identity_key_file == str(place / "identity.der")
    assert all(Path(value).is_file() for key, value in section["platform"].items() if key.endswith("_file"))
    assert "valid from" in done.stderr


def test_from_the_default_directory_files_are_named_as_systemd_hands_them_over(desk, place, answer_file, monkeypatch):
    accept(place, answer_file, desk.fingerprint)
    monkeypatch.setattr(credentials, "DIRECTORY", place)
    section = credentials.platform_section(place)
    from runtime.reference import EXAMPLE

    wanted = tomllib.loads(EXAMPLE)["platform"]
    assert {key: section[key] for key in wanted if key.endswith("_file")} == {
        key: value for key, value in wanted.items() if key.endswith("_file")
    }


@pytest.mark.parametrize(
    "form", [str, str.upper, lambda said: said.replace(" ", ":"), lambda said: said.replace(" ", "")]
)
def test_the_fingerprint_is_taken_as_people_write_it(desk, place, answer_file, form):
    assert accept(place, answer_file, form(desk.fingerprint)).exit_code == 0


def test_a_second_request_and_a_second_answer_are_refused(desk, tmp_path, place, answer_file):
    again = tmp_path / "again"
    second = ("request", "--terminal", "HALL-0001", "--output", again, "--directory", place)
    assert "govterm enroll wipe" in refused(enroll(*second), "enroll.already")
    assert accept(place, answer_file, desk.fingerprint).exit_code == 0
    before = listed(place)
    refused(accept(place, answer_file, desk.fingerprint), "enroll.already")
    refused(enroll(*second), "enroll.already")
    assert listed(place) == before
    assert not again.exists()


def test_keys_put_there_by_hand_are_not_replaced(tmp_path, place, machine_id):
    place.mkdir(mode=0o700)
    (place / "identity.der").write_bytes(b"a key")
    done = enroll("request", "--terminal", "HALL-0001", "--output", tmp_path / "request", "--directory", place)
    refused(done, "enroll.already")
    assert listed(place) == {"identity.der": b"a key"}


def test_another_fingerprint_changes_nothing(desk, place, answer_file):
    before = listed(place)
    other = "f" + desk.fingerprint[1:] if desk.fingerprint[0] != "f" else "0" + desk.fingerprint[1:]
    assert desk.fingerprint in refused(accept(place, answer_file, other), "enroll.fingerprint")
    refused(accept(place, answer_file, "abcd"), "enroll.bad_fingerprint")
    assert listed(place) == before
    assert accept(place, answer_file, desk.fingerprint).exit_code == 0


def test_the_answer_to_a_request_of_before_is_refused(desk, tmp_path, place, answer_file):
    assert enroll("wipe", "--yes", "--directory", place).exit_code == 0
    refused(accept(place, answer_file, desk.fingerprint), "enroll.no_request")
    again = ("request", "--terminal", "HALL-0001", "--output", tmp_path / "again", "--directory", place)
    assert enroll(*again).exit_code == 0
    refused(accept(place, answer_file, desk.fingerprint), "enroll.other_request")


def test_an_answer_that_is_none_is_refused(desk, place, request_file, tmp_path):
    refused(accept(place, request_file, desk.fingerprint), "enroll.malformed")
    refused(accept(place, tmp_path / "none", desk.fingerprint), "enroll.file")
    refused(accept(place, tmp_path, desk.fingerprint), "enroll.file")


def test_who_may_not_read_the_directory_is_told_so(desk, place, answer_file, monkeypatch):
    """And not that there is nothing."""
    fingerprint = desk.fingerprint

    def forbidden(path, *_arguments):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    monkeypatch.setattr(Path, "iterdir", forbidden)
    for done in (
        accept(place, answer_file, fingerprint),
        enroll("show", "--directory", place),
        enroll("wipe", "--yes", "--directory", place),
    ):
        assert "Permission denied" in refused(done, "enroll.file")


@pytest.mark.parametrize("name", ["terminal.key", "request.json"])
def test_a_damaged_request_is_told(desk, place, answer_file, name):
    (place / name).chmod(0o600)
    (place / name).write_bytes(b"\xff")
    assert f"{name} is damaged" in refused(accept(place, answer_file, desk.fingerprint), "enroll.file")


@pytest.mark.parametrize(
    ("name", "code"),
    [("enrolment.json", "enroll.file"), ("terminal.pem", "enroll.file"), ("platform.cer", "enroll.bad_certificate")],
)
def test_a_damaged_enrolment_is_told(desk, place, answer_file, name, code):
    assert accept(place, answer_file, desk.fingerprint).exit_code == 0
    (place / name).chmod(0o600)
    (place / name).write_bytes(b"\xff")
    refused(enroll("show", "--directory", place), code)


def test_an_open_directory_is_refused(tmp_path, place, machine_id):
    place.mkdir(mode=0o755)
    done = enroll("request", "--terminal", "HALL-0001", "--output", tmp_path / "request", "--directory", place)
    assert "chmod 0700" in refused(done, "enroll.directory_open")
    assert listed(place) == {}


def test_a_request_that_cannot_be_written_leaves_no_key(tmp_path, place, machine_id):
    (tmp_path / "request").write_text("something of somebody's")
    done = enroll("request", "--terminal", "HALL-0001", "--output", tmp_path / "request", "--directory", place)
    refused(done, "enroll.file")
    assert listed(place) == {}
    assert (tmp_path / "request").read_text() == "something of somebody's"


def fail_at(monkeypatch, step: int) -> None:
    """Let one flush or move fail, as on a full disk or a dying card."""
    calls = {"left": step}

    def failing(real):
        def act(*arguments, **named):
            calls["left"] -= 1
            if calls["left"] == -1:
                raise OSError(28, "No space left on device")
            return real(*arguments, **named)

        return act

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(Path, "replace", failing(Path.replace))


@pytest.mark.parametrize("step", range(5))
def test_a_request_that_fails_anywhere_leaves_nothing(tmp_path, place, machine_id, step):
    request = ("request", "--terminal", "HALL-0001", "--output", tmp_path / "request", "--directory", place)
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, step)
        done = enroll(*request)
    assert "the disk: No space left" in refused(done, "enroll.file")
    assert listed(place) == {}
    assert enroll(*request).exit_code == 0


@pytest.mark.parametrize("step", range(14))
def test_an_accept_that_fails_anywhere_leaves_what_was_there(desk, place, answer_file, step):
    before = listed(place)
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, step)
        done = accept(place, answer_file, desk.fingerprint)
    assert "No space left" in refused(done, "enroll.file")
    assert listed(place) == before
    assert accept(place, answer_file, desk.fingerprint).exit_code == 0


def test_a_power_cut_before_the_last_move_is_no_enrolment(desk, place, answer_file, monkeypatch):
    """Everything but enrolment.json is in place, and a new attempt is as good as the first."""

    class PowerCutError(BaseException):
        pass

    real = Path.replace

    def cut(path, target):
        if Path(target).name == "enrolment.json":
            raise PowerCutError
        return real(path, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(PowerCutError):
        credentials.accept(place, answer_file, desk.fingerprint)
    monkeypatch.undo()
    assert "waits for the answer" in enroll("show", "--directory", place).stdout
    with pytest.raises(TransportError, match="no enrolment"):
        credentials.platform_section(place)
    assert accept(place, answer_file, desk.fingerprint).exit_code == 0
    assert {path.name for path in place.iterdir()} == KEYS | FORCE


def test_a_clock_that_is_wrong_warns_and_refuses_nothing(desk, place, answer_file, monkeypatch):
    """L39: the terminal's clock is right only once it has spoken to its platform."""
    import datetime

    class Past(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(1999, 1, 1, tzinfo=tz)

    monkeypatch.setattr("runtime.enrol.datetime.datetime", Past)
    done = accept(place, answer_file, desk.fingerprint)
    assert done.exit_code == 0
    assert "Warning: by this machine's clock (1999-01-01" in done.stderr


def test_wiping_overwrites_the_keys_and_removes_everything(desk, place, answer_file):
    assert accept(place, answer_file, desk.fingerprint).exit_code == 0
    secrets = {name: (place / name).read_bytes() for name in KEYS}
    links = {name: place.parent / f"{name}.link" for name in KEYS}
    for name, link in links.items():
        os.link(place / name, link)
    assert enroll("wipe", "--directory", place, stdin="n\n").exit_code == 1
    assert set(listed(place)) == KEYS | FORCE
    assert enroll("wipe", "--directory", place, stdin="y\n").exit_code == 0
    assert listed(place) == {}
    for name, link in links.items():
        left = link.read_bytes()
        assert len(left) == len(secrets[name])
        assert not any(secrets[name][start : start + 8] in left for start in range(len(left) - 8))
    refused(enroll("show", "--directory", place), "enroll.nothing")
    assert "nothing" in enroll("wipe", "--yes", "--directory", place).stderr


@pytest.mark.parametrize("name", ["GT1", "GT_0001", "GT-0001\n", "../escape", "x" * 33])
def test_a_name_that_no_terminal_can_have_is_a_wrong_argument(tmp_path, place, name):
    done = enroll("request", "--terminal", name, "--output", tmp_path / "request", "--directory", place)
    assert done.exit_code == 2
    assert not place.exists()


def test_no_private_key_is_ever_said(desk, tmp_path, place, machine_id):
    request, answer = tmp_path / "request", tmp_path / "answer"
    said = enroll("request", "--terminal", "HALL-0001", "--output", request, "--directory", place).output
    answer.write_bytes(desk.answer(request.read_bytes(), "broker", 8883).message)
    said += accept(place, answer, desk.fingerprint).output + enroll("show", "--directory", place).output
    said += (place / "enrolment.json").read_text() + answer.read_bytes().hex()
    assert not any(scalar.hex() in said.replace(" ", "") for scalar in scalars(place))


@pytest.mark.parametrize(
    ("mode", "given", "is_open"),
    [
        (0o400, False, False),
        (0o600, False, False),
        (0o440, False, True),
        (0o404, False, True),
        (0o420, False, True),
        (0o440, True, False),
        (0o444, True, True),
        (0o460, True, True),
    ],
)
def test_a_key_file_is_its_owners_alone(tmp_path, monkeypatch, mode, given, is_open):
    """In $CREDENTIALS_DIRECTORY the group's bits are the mask of systemd's access list."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path if given else tmp_path / "other"))
    key = tmp_path / "identity.der"
    key.write_bytes(b"x")
    key.chmod(mode)
    assert open_to_others(key) is is_open
