"""The configuration as a whole: what is refused across keys, on the rig and on this machine."""

import os
import tomllib
from pathlib import Path

import msgspec
import pytest

from runtime.config import ConfigError, Settings, check_machine, load, parse, secret_file
from runtime.reference import EXAMPLE, reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def changed(**sections):
    document = tomllib.loads(EXAMPLE)
    for name, values in sections.items():
        if isinstance(values, dict):
            document[name] = {**document.get(name, {}), **values}
        else:
            document[name] = values
    return _toml(document)


def _toml(document):
    lines = [f"{key} = {_value(value)}" for key, value in document.items() if not isinstance(value, dict)]
    for key, section in document.items():
        if isinstance(section, dict):
            lines += [
                f"[{key}]",
                *(f"{name} = {_value(value)}" for name, value in section.items() if value is not None),
            ]
    return "\n".join(lines).encode()


def _value(value):
    return msgspec.json.encode(value).decode()


def refused(data, *, rig=False):
    with pytest.raises(ConfigError) as caught:
        parse(data, rig=rig)
    return {mistake.key: mistake.found for mistake in caught.value.mistakes}


def test_the_documents_example_passes_the_check():
    settings = parse(EXAMPLE.encode())
    assert settings.api.ui_users == ("kiosk",)
    assert settings.rig is False


def test_the_reference_page_is_the_generated_one():
    assert DOCUMENT.read_text() == reference(), "run: python -m runtime.reference > docs/configuration.md"


def test_every_key_is_documented():
    page = reference()
    for section in msgspec.structs.fields(Settings):
        assert f"`{section.name}`" in page or f"`[{section.name}]`" in page
        if isinstance(section.type, type) and issubclass(section.type, msgspec.Struct):
            for field in msgspec.structs.fields(section.type):
                assert f"| `{field.name}` |" in page


def test_the_rig_is_refused_unless_its_launcher_asks():
    data = changed(
        rig=True, vision={"photo_decoder": "rig", "photo_library": None, "camera": "rig:/run/rig/camera.sock"}
    )
    assert refused(data) == {"rig": "true"}
    assert parse(data, rig=True).rig is True


def test_tampering_is_ignored_by_a_rig_alone():
    """T23, H8: the least that a terminal does is an alarm."""
    data = changed(security={"usb": "ignore", "door": "alarm"})
    assert refused(data) == {"security.usb": '"ignore"'}
    rig = changed(rig=True, security={"usb": "ignore"})
    assert parse(rig, rig=True).security.answer("usb") == "ignore"
    assert refused(changed(security={"usb_allowed": ["stick"], "uplinks": ["eth0/1"]})).keys() == {
        "security.usb_allowed",
        "security.uplinks",
    }


def test_the_rigs_parts_are_refused_without_rig():
    face, document = "rig:/run/rig/camera.sock", "rig:/run/rig/document.sock"
    cameras = {"camera": face, "document_camera": document}
    data = changed(vision={"photo_decoder": "rig", "photo_library": None, **cameras})
    assert refused(data, rig=True) == {
        "vision.photo_decoder": '"rig"',
        "vision.camera": face,
        "vision.document_camera": document,
    }


def test_the_rig_is_told_beside_other_mistakes():
    assert set(refused(changed(rig=True, idcard={"baud": 1}))) == {"rig", "idcard.baud"}


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"vision": {"photo_library": None}}, "vision.photo_library"),
        ({"vision": {"photo_library": "libphoto.so"}}, "vision.photo_library"),
        ({"vision": {"camera": "video0"}}, "vision.camera"),
        ({"platform": {"username": "HALL-0001"}}, "platform.password_file"),
        ({"platform": {"password_file": "mqtt.password"}}, "platform.password_file"),
        ({"vision": {"document_camera": "video1"}}, "vision.document_camera"),
        ({"vision": {"document_camera": ""}}, "vision.document_camera"),
        ({"vision": {"camera": "/dev/video0", "document_camera": "/dev/video0"}}, "vision.document_camera"),
        ({"api": {"preview_socket": "/run/govterm/govterm.sock"}}, "api.preview_socket"),
        ({"api": {"socket": "govterm.sock"}}, "api.socket"),
        ({"api": {"socket": "/" + "x" * 107}}, "api.socket"),
        ({"api": {"operator_users": ["kiosk"]}}, "api.operator_users"),
        ({"api": {"tester_users": ["kiosk"]}}, "api.tester_users"),
        ({"api": {"ui_users": []}}, "api.ui_users"),
        ({"printer": {"port": "/dev/serial/by-id/usb-Reader_SAM-V-if00-port0"}}, "printer.port"),
        ({"idcard": {"port": "tcp://10.0.0.1"}}, "idcard.port"),
        ({"session": {"idle_seconds": 600, "longest_seconds": 60}}, "session.idle_seconds"),
        ({"state_directory": "var"}, "state_directory"),
        ({"platform": {"host": "mqtts://broker.example.gov.cn"}}, "platform.host"),
        ({"platform": {"host": "broker.example.gov.cn:8883"}}, "platform.host"),
        ({"platform": {"host": " "}}, "platform.host"),
        ({"api": {"socket": "/run/\0"}}, "api.socket"),
        ({"api": {"ui_users": ["a", "b\0"]}}, "api.ui_users"),
    ],
)
def test_what_does_not_fit_together_is_refused(sections, key):
    assert list(refused(changed(**sections))) == [key]


def test_what_does_not_fit_together_is_told_beside_other_mistakes():
    """One run of the check is enough: a wrong type elsewhere hides nothing."""
    data = changed(
        api={"socket": "govterm.sock", "operator_users": ["kiosk"]},
        idcard={"baud": 1},
        vision={"photo_library": None},
        session={"idle_seconds": 600, "longest_seconds": "long"},
    )
    assert set(refused(data)) == {
        "api.socket",
        "api.operator_users",
        "idcard.baud",
        "vision.photo_library",
        "session.longest_seconds",
    }
    assert set(refused(changed(api={"operator_users": "kiosk"}, session={"idle_seconds": 300}))) == {
        "api.operator_users"
    }


@pytest.mark.parametrize("host", ["broker", "10.0.0.1", "::1", "fd00::1:2", "broker_1.example.gov.cn"])
def test_names_and_addresses_are_hosts(host):
    assert parse(changed(platform={"host": host})).platform.host == host


def test_a_mark_of_byte_order_is_no_mistake():
    assert parse(b"\xef\xbb\xbf" + EXAMPLE.encode()) == parse(EXAMPLE.encode())


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match="expected a readable file; found No such file or directory"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="found Is a directory"):
        load(tmp_path)


def test_a_file_without_end_is_refused(tmp_path):
    (tmp_path / "big.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigError, match="at most 1,048,576 bytes"):
        load(tmp_path / "big.toml")


def test_the_machine_is_asked_for_users_files_and_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    names = ["ca.pem", "terminal.pem", "terminal.key", "identity.der", "platform.der", "seal.der"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / name).chmod(0o400)
    good = changed(
        state_directory=str(tmp_path),
        api={"ui_users": [str(os.getuid() + 1)], "operator_users": ["root", "who-left-us"]},
        vision={"photo_library": str(tmp_path / "seal.der")},
    )
    assert check_machine(parse(good)) == []
    both = changed(
        state_directory=str(tmp_path),
        api={"ui_users": ["root"], "operator_users": ["0"]},
        vision={"photo_library": str(tmp_path / "seal.der")},
    )
    assert [(mistake.key, mistake.found) for mistake in check_machine(parse(both))] == [("api.operator_users", "'0'")]
    (tmp_path / "identity.der").chmod(0o404)
    (mistake,) = check_machine(parse(good))
    assert (mistake.key, mistake.found) == ("platform.identity_key_file", "mode 0404")
    (tmp_path / "identity.der").chmod(0o400)
    (tmp_path / "terminal.key").unlink()
    bad = parse(
        changed(
            state_directory=str(tmp_path / "none"),
            api={"ui_users": ["nobody-of-this-name"]},
            vision={"photo_library": str(tmp_path / "none.so")},
            platform={"username": "HALL-0001", "password_file": "mqtt.password"},
        )
    )
    assert [mistake.key for mistake in check_machine(bad)] == [
        "api.ui_users",
        "platform.private_key_file",
        "platform.password_file",
        "vision.photo_library",
        "state_directory",
    ]


def test_secret_files_are_sought_in_the_credentials_directory(monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/govterm.service")
    assert secret_file("ca.pem") == Path("/run/credentials/govterm.service/ca.pem")
    assert secret_file("/etc/ca.pem") == Path("/etc/ca.pem")


DEVICES = """
[fingerprint]
port = "/dev/serial/by-id/usb-Finger"
[cardreader]
port = "/dev/serial/by-path/pci-1"
usb = "0403:6001"
[pinpad]
port = "/dev/ttyS1"
[ups]
port = "nut://monitor@localhost/ups"
[environment]
port = "/dev/ttyS2"
identity = "A5002"
"""


def test_every_kind_of_device_has_a_section_and_an_absent_one_is_none():
    """T1-T6, T14: the kinds are named alike as section and unit."""
    assert parse(EXAMPLE.encode()).devices.keys() == {"idcard", "printer"}
    settings = parse((EXAMPLE + DEVICES).encode())
    kinds = ["idcard", "printer", "fingerprint", "cardreader", "pinpad", "ups", "environment"]
    assert list(settings.devices) == kinds
    assert settings.environment is not None
    assert settings.environment.identity == "A5002"


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        ('[ups]\nport = "localhost"', "ups.port", "an absolute path"),
        ('[pinpad]\nport = "nut://host/ups"', "pinpad.port", "an absolute path"),
        ('[pinpad]\nport = "/dev/ttyUSB0"', "pinpad.port", "stays the same after a replug"),
        ('[pinpad]\nport = "/dev/ttyS1"\nusb = "6001"', "pinpad.usb", "text that matches"),
        ('[pinpad]\nport = "/dev/ttyS1"\nmac_key = 48', "pinpad", "keys that fit together"),
        ('[pinpad]\nport = "/dev/ttyS1"\n[fingerprint]\nport = "/dev/ttyS1"', "pinpad.port", "than fingerprint.port"),
        ('[pinpad]\nport = "/dev/ttyS1"\ndriver = "acme"', "pinpad.driver", "no other driver is installed"),
    ],
)
def test_a_wrong_device_section_names_the_device_and_the_key(line, key, expected):
    with pytest.raises(ConfigError) as refused:
        parse(f"{EXAMPLE}\n{line}\n".encode())
    (mistake,) = refused.value.mistakes
    assert mistake.key == key
    assert expected in mistake.expected
