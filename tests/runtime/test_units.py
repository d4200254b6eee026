"""The unit files, rendered for this environment and judged by systemd's own tools (issue A, `systemd/`)."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from runtime.egress import Endpoint
from runtime.hardware import _SERIALS
from runtime.process import STOP_SECONDS
from runtime.units import EGRESS, FILES, UnitsError, addresses, hidden_interpreter, render

EXPOSURE_TENTHS = 13
EXPOSURE_WITH_ADDRESSES_TENTHS = 14
SYSTEMD = Path(__file__).parents[2] / "systemd"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.units._HIDDEN", ())  # a checkout may lie below /home
    render(tmp_path)
    return tmp_path


@pytest.fixture
def narrowed(root):
    """The same with the drop-in, for a broker and a printer by their addresses."""
    render(root, allowed=[Endpoint("2001:DB8::9", 9100), Endpoint("192.0.2.1", 8883), Endpoint("::ffff:10.0.0.7", 1)])
    return root


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What /etc/hosts, /etc/resolv.conf and the name service say."""
    hosts, resolvers = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n192.0.2.8 UPS.hall ups # printer.hall\n")
    resolvers.write_text("# 10.9.9.9\nsearch hall\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver\n")
    answers = {
        "localhost": ["127.0.0.1", "::1"],
        "ups.Hall": ["192.0.2.8"],
        "broker.example": ["192.0.2.2", "192.0.2.10"],
        "printer.hall": ["192.0.2.3"],
    }

    def look_up(host, port, **_):
        if host not in answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in answers[host]]

    monkeypatch.setattr("runtime.units._HOSTS", hosts)
    monkeypatch.setattr("runtime.units._RESOLVERS", resolvers)
    monkeypatch.setattr("runtime.units.socket.getaddrinfo", look_up)
    return resolvers


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)


def setting(root, key, file="govterm.service"):
    text = (root / "etc/systemd/system" / file).read_text()
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def test_every_file_has_its_place_and_names_this_environment(root):
    assert {path.name for path in SYSTEMD.iterdir()} == set(FILES)
    for place in FILES.values():
        assert "@VENV@" not in (root / place).read_text()
    assert setting(root, "ExecStart")[0].startswith(f"{sys.prefix}/bin/python -m runtime ")


def test_systemd_verifies_the_units_without_a_word(root):
    units = sorted((root / "etc/systemd/system").iterdir())
    done = run("systemd-analyze", "verify", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(units) == 3


def test_verify_would_see_a_mistake(root):
    unit = root / "etc/systemd/system/govterm.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchDogSec="))
    assert "WatchDogSec" in run("systemd-analyze", "verify", unit).stderr


def test_the_exposure_is_at_most_one_and_three_tenths(root):
    unit = root / "etc/systemd/system/govterm.service"
    done = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_TENTHS}", unit)
    assert done.returncode == 0, done.stdout
    (level,) = re.findall(r"Overall exposure level for govterm.service: ([\d.]+)", done.stdout)
    assert float(level) * 10 <= EXPOSURE_TENTHS


def test_the_drop_in_lets_the_endpoints_through_and_nothing_else(narrowed):
    """T20: the broker and the printer; not even this machine's own addresses."""
    lines = [line for line in (narrowed / EGRESS).read_text().splitlines() if not line.startswith("#")]
    assert lines == [
        "[Service]",
        *(f"IPAddressAllow={place}" for place in ("10.0.0.7", "192.0.2.1", "2001:db8::9")),
    ]
    assert (narrowed / EGRESS).stat().st_mode & 0o777 == 0o644


def test_systemd_verifies_the_drop_in_and_sees_little_more_exposure(narrowed):
    unit = narrowed / "etc/systemd/system/govterm.service"
    done = run("systemd-analyze", "verify", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_WITH_ADDRESSES_TENTHS}", unit)
    assert done.returncode == 0, done.stdout
    drop_in = narrowed / EGRESS
    drop_in.write_text(drop_in.read_text().replace("192.0.2.1", "192.0.2.256"))
    assert "192.0.2.256" in run("systemd-analyze", "verify", unit).stderr


def test_without_a_configuration_nothing_is_let_through(root):
    """T20: whoever forgets the addresses has a terminal without a line, not one that speaks to anybody."""
    assert not (root / EGRESS).exists()
    assert setting(root, "IPAddressDeny") == ["any"]
    assert setting(root, "IPAddressAllow") == []


def test_the_daemon_may_read_the_boards_serial_number(root):
    """H8: DMI shows it to root alone; on a board without DMI, or with /sys read-only, the line does nothing."""
    lines = [line.split() for line in (root / "etc/tmpfiles.d/govterm.conf").read_text().splitlines() if "dmi" in line]
    assert lines == [
        ["z-", f"/{place}", "0440", "root", "govterm", "-"] for place in _SERIALS.values() if "dmi" in place
    ]


def test_nobody_is_to_connect_to_the_daemon(root):
    assert setting(root, "SocketBindDeny") == ["any"]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["192.0.2.1"], ["192.0.2.1"]),
        (["localhost"], ["127.0.0.1", "::1"]),
        (["ups.Hall"], ["192.0.2.8"]),
        (["broker.example"], ["127.0.0.53", "192.0.2.2", "192.0.2.10", "fe80::1"]),
        (["printer.hall", "192.0.2.3"], ["127.0.0.53", "192.0.2.3", "fe80::1"]),
    ],
)
def test_a_name_brings_its_addresses_and_unless_in_etc_hosts_the_resolvers(names, hosts, expected):
    """T20: whoever names an endpoint in /etc/hosts opens no resolver, which could carry data."""
    assert addresses(Endpoint(host, 1) for host in hosts) == expected


def test_without_a_resolver_this_machine_is_asked(names):
    """resolv.conf(5)."""
    names.unlink()
    assert addresses([Endpoint("broker.example", 1)]) == ["127.0.0.1", "192.0.2.2", "192.0.2.10"]


def test_a_name_without_an_address_is_told_and_nothing_is_written(names, tmp_path):
    with pytest.raises(UnitsError, match=r"gone\.example has no address") as caught:
        render(tmp_path / "root", Path("/opt/govterm"), [Endpoint("gone.example", 8883)])
    assert (caught.value.code, caught.value.retry) == ("units.no_address", True)
    assert not (tmp_path / "root").exists()


def test_users_and_directories_are_made_as_told(root):
    for part in ("passwd", "group"):
        (root / "etc" / part).write_text("root:x:0:0:root:/:/bin/sh\n" if part == "passwd" else "root:x:0:\n")
    done = run("systemd-sysusers", f"--root={root}", root / "etc/sysusers.d/govterm.conf")
    assert (done.returncode, "govterm-ui" in (root / "etc/group").read_text()) == (0, True), done.stderr
    done = run("systemd-tmpfiles", "--create", f"--root={root}", root / "etc/tmpfiles.d/govterm.conf")
    if os.geteuid() != 0:  # only root may give directories to the daemon's user; everything else must be right
        assert [line for line in done.stderr.splitlines() if "Operation not permitted" not in line] == []
        return
    assert (done.returncode, done.stderr) == (0, "")
    for path, mode in (("etc/govterm/credentials", 0o700), ("var/lib/govterm-models", 0o755), ("run/govterm", 0o755)):
        assert (root / path).stat().st_mode & 0o777 == mode


def test_the_udev_rules_are_well_formed(root):
    """Each rule is a list of match and assignment pairs, and gives a class that the unit allows (L8)."""
    pair = r'(ACTION|SUBSYSTEM|SUBSYSTEMS|KERNEL|ENV\{\w+\}|GROUP|MODE|TAG|IMPORT\{builtin\})(==|!=|=|\+=)"[^"]*"'
    text = (root / "etc/udev/rules.d/99-govterm.rules").read_text()
    rules = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(rules) == 3
    for rule in rules:
        assert re.fullmatch(rf"{pair}(, {pair})*", rule), rule
        assert 'ACTION!="remove"' in rule
        assert 'TAG+="systemd"' in rule


def test_each_device_class_the_unit_allows_is_loaded_at_boot(root):
    """A class that does not exist when the unit starts stays refused for a device plugged in later."""
    module = {
        "char-ttyUSB": "usbserial",
        "char-ttyACM": "cdc_acm",
        "char-usb": "usblp",
        "char-video4linux": "videodev",
        "char-ttyS": None,
    }
    loaded = set((root / "etc/modules-load.d/govterm.conf").read_text().split("\n"))
    allowed = [value.split()[0] for value in setting(root, "DeviceAllow")]
    assert set(allowed) == set(module)
    assert {module[name] for name in allowed} - {None} <= loaded


def seconds(text):
    return int(text.removesuffix("min")) * 60 if text.endswith("min") else int(text)


def test_the_start_limit_trips_for_slow_failures_and_the_timer_waits_for_it(root):
    """L35: a window shorter than burst times delay never trips; a limit without a way back is dead for ever."""
    burst, window, start, stop, watchdog, delay = (
        seconds(setting(root, key)[0])
        for key in (
            "StartLimitBurst",
            "StartLimitIntervalSec",
            "TimeoutStartSec",
            "TimeoutStopSec",
            "WatchdogSec",
            "RestartSec",
        )
    )
    assert burst * (max(start, watchdog) + stop + delay) < window
    assert seconds(setting(root, "OnActiveSec", "govterm-retry.timer")[0]) > window
    assert setting(root, "OnFailure") == ["govterm-retry.timer"]
    assert stop > STOP_SECONDS


def test_the_unit_hands_over_what_the_example_configuration_names(root):
    from runtime.config import parse
    from runtime.reference import EXAMPLE

    settings = parse(EXAMPLE.encode())
    given = {value.partition(":")[0] for value in setting(root, "LoadCredential")}
    platform = settings.platform
    assert given == {
        platform.ca_file,
        platform.certificate_file,
        platform.private_key_file,
        platform.identity_key_file,
        platform.signing_key_file,
        platform.seal_key_file,
    }
    assert setting(root, "ListenStream", "govterm.socket") == [settings.api.socket, settings.api.preview_socket]
    assert f"/var/lib/{setting(root, 'StateDirectory')[0]}" == settings.state_directory


def test_the_unit_overwrites_freed_memory_as_the_launcher_does(root):
    from runtime.cli import ALLOCATOR

    assert {f"{key}={value}" for key, value in ALLOCATOR.items()} <= set(setting(root, "Environment"))


def test_the_unit_leaves_memory_for_what_the_daemon_allows_itself(root):
    """The vision process is ended at its own limit, before the kernel ends something else of the unit's."""
    from vision.config import Vision

    (most,) = setting(root, "MemoryMax")
    allowed = next(field.default for field in msgspec.structs.fields(Vision) if field.name == "memory_mib")
    assert int(most.removesuffix("M")) >= 1.5 * allowed


@pytest.mark.parametrize("hidden", ["home", "root", "run/user"])
def test_an_environment_the_unit_would_hide_is_refused(tmp_path, hidden):
    with pytest.raises(UnitsError) as caught:
        render(tmp_path, Path("/", hidden, "somebody/venv"))
    assert caught.value.code == "units.hidden"
    assert list(tmp_path.iterdir()) == []


def test_a_python_the_unit_would_hide_is_named(tmp_path):
    """The environment lies in /opt, but uv and pyenv keep its interpreter in a home directory: 203/EXEC."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to("/run/user/0/python3.11")
    assert hidden_interpreter(tmp_path) == Path("/run/user/0/python3.11")
    (tmp_path / "bin/python").unlink()
    (tmp_path / "bin/python").symlink_to("/usr/bin/env")
    assert hidden_interpreter(tmp_path) is None


def test_the_unit_never_accepts_the_rig(root):
    commands = setting(root, "ExecStartPre") + setting(root, "ExecStart")
    assert len(commands) == 2
    assert not any("--rig" in command for command in commands)


def test_the_kernel_tells_the_daemon_who_calls(root):
    """In a user namespace of its own the daemon would see every caller as 65534 and serve nobody."""
    assert setting(root, "PrivateUsers") == ["no"]
    assert setting(root, "DynamicUser") == []
