"""The rig's terminal is enrolled by the product's own code, and its keys are guarded like a real one's (T20)."""

import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from devices.config import Ups
from runtime.config import check_machine, load
from runtime.credentials import describe
from runtime.enrolment import load_enrolment
from sim.enrolment import Desk
from sim.settings import RigFiles, RigSettings, make_rig
from sim.trust import make_trust
from transport.errors import TransportError
from transport.sm2 import PrivateKey


@pytest.fixture
def files(tmp_path) -> RigFiles:
    files = RigFiles(tmp_path / "rig", tmp_path / "rig")
    make_rig(files, RigSettings(broker_port=18_883))
    return files


def test_the_rigs_terminal_is_enrolled_at_its_platform(files):
    desk = Desk(files.trust_directory)
    told = describe(files.trust.terminal)
    assert (told["terminal"], told["platform"], told["broker"]) == (
        "RIG-0001",
        desk.fingerprint,
        "127.0.0.1 port 18883",
    )
    identity = PrivateKey.from_der(files.trust.identity_key.read_bytes())
    assert desk.terminals()["RIG-0001"].point == identity.public.point
    assert not (files.trust.terminal / "request.json").exists()


def test_the_daemon_loads_what_the_enrolment_wrote(files):
    settings = load(files.daemon_settings, rig=True)
    desk = Desk(files.trust_directory)
    enrolment = load_enrolment(settings, software_version="0", boot_id="b")
    assert enrolment.keys.platform.point == desk.signing_key.public.point
    assert enrolment.seal_key.point == desk.seal_key.public.point
    desk.terminals()["RIG-0001"].verify(enrolment.keys.identity.sign(b"text"), b"text")


@pytest.mark.parametrize("name", ["identity_key", "terminal_key"])
def test_a_private_key_that_others_can_read_is_refused(files, name):
    settings = load(files.daemon_settings, rig=True)
    path: Path = getattr(files.trust, name)
    path.chmod(0o440)
    with pytest.raises(TransportError) as caught:
        load_enrolment(settings, software_version="0", boot_id="b")
    assert caught.value.code == "key.file_open"
    assert caught.value.advice == f"run `chmod 0400 {path}`"
    (mistake,) = check_machine(settings)
    assert (mistake.found, "chmod 0400" in mistake.expected) == ("mode 0440", True)


@pytest.mark.parametrize("section", ["platform", "ups"])
def test_a_password_that_others_can_read_is_refused(files, tmp_path, section):
    password = tmp_path / "password"
    password.write_text("secret")
    settings = load(files.daemon_settings, rig=True)
    if section == "platform":
        named = replace(settings.platform, username="HALL-0001", password_file=str(password))
    else:
        named = Ups(port="nut://upsmon@127.0.0.1:3493/ups", password_file=str(password))
    settings = replace(settings, **{section: named})
    password.chmod(0o400)
    assert load_enrolment(settings, software_version="0", boot_id="b").refusal is None
    assert check_machine(settings) == []
    password.chmod(0o440)
    with pytest.raises(TransportError) as caught:
        load_enrolment(settings, software_version="0", boot_id="b")
    assert caught.value.code == "key.file_open"
    (mistake,) = check_machine(settings)
    assert (mistake.key, mistake.found) == (f"{section}.password_file", "mode 0440")


def test_every_file_is_its_owners_alone(files):
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in files.trust_directory.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert all(mode == 0o400 for path, mode in modes.items() if path.is_file() and path.suffix != ".request"), modes


def test_trust_is_never_replaced(tmp_path):
    make_trust(tmp_path / "trust", "GT-0001")
    with pytest.raises(FileExistsError):
        make_trust(tmp_path / "trust", "GT-0001")
