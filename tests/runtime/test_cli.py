"""The `govterm` command as a stranger meets it: help, one clear line for each error, stated exit codes."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from runtime import cli
from runtime.reference import EXAMPLE

COMMANDS = ["run", "check", "status", "call", "units", "models", "enroll", "lockdown"]


def invoke(*arguments):
    return CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture
def daemon(tmp_path):
    """A daemon in a thread of its own that answers as `replies` says."""
    replies = {"rpc.hello": {"result": {}}}
    path = tmp_path / "api.sock"
    started, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve(reader, writer):
        while line := await reader.readline():
            asked = json.loads(line)
            reply = replies.get(asked["method"], {"error": {"code": -32601, "message": "no such method"}})
            writer.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **reply}).encode() + b"\n")
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await asyncio.start_unix_server(serve, path):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert started.wait(10)
    yield replies, str(path)
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def test_help_names_every_command_and_the_exit_codes():
    done = invoke("--help")
    assert done.exit_code == 0
    for word in (*COMMANDS, "Exit codes", "78"):
        assert word in done.output
    for command in COMMANDS:
        assert invoke(command, "--help").exit_code == 0


def test_every_option_and_argument_says_what_it_is():
    for name in COMMANDS:
        lines = [line for line in invoke(name, "--help").output.splitlines() if line.startswith("│ --")]
        assert all(len(line.strip("│ ").split("  ")) >= 2 for line in lines)


def test_a_good_file_has_no_mistakes(tmp_path):
    file = tmp_path / "govterm.toml"
    file.write_text(EXAMPLE)
    done = invoke("check", str(file))
    assert (done.exit_code, done.output) == (0, f"{file}: no mistakes\n")


def test_every_mistake_is_one_line_and_the_exit_code_is_one(tmp_path):
    file = tmp_path / "govterm.toml"
    file.write_text(EXAMPLE.replace("90", "1").replace("576", "577") + "prot = 1\n")
    done = invoke("check", str(file))
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f"{file}: printer.width_dots: expected a whole number from 384 to 832, in steps of 8; found 577",
        f"{file}: platform.prot: expected `platform.port` (did you mean this?); found an unknown key",
        f"{file}: session.idle_seconds: expected a number from 5 to 600; found 1",
    ]


def test_a_syntax_error_has_its_line(tmp_path):
    file = tmp_path / "govterm.toml"
    file.write_text("rig = false\n[api\n")
    done = invoke("check", str(file))
    assert done.exit_code == 1
    assert "line 2" in done.output


def test_the_rig_is_refused_by_check_unless_told(tmp_path):
    file = tmp_path / "govterm.toml"
    file.write_text("rig = true\n" + EXAMPLE)
    assert "rig: expected false" in invoke("check", str(file)).output
    assert invoke("check", "--rig", str(file)).exit_code == 0


def test_check_of_the_machine_names_what_it_lacks(tmp_path):
    file = tmp_path / "govterm.toml"
    file.write_text(EXAMPLE)
    done = invoke("check", "--machine", str(file))
    assert done.exit_code == 1
    assert "platform.ca_file: expected a readable file; found 'ca.pem'" in done.output


def test_run_becomes_the_daemon_with_its_allocator(monkeypatch):
    became = []
    monkeypatch.setattr(os, "execve", lambda *arguments: became.append(arguments))
    invoke("run", "--config", "govterm.toml", "--rig")
    ((program, arguments, environment),) = became
    assert program == sys.executable
    assert arguments == [sys.executable, "-m", "runtime", "--config", "govterm.toml", "--rig"]
    assert environment["PYTHONMALLOC"] == "malloc"
    assert "perturb=165" in environment["GLIBC_TUNABLES"]


def test_locks_are_listed_and_cleared_by_their_names(daemon):
    """T23, H6: an operator sees why no session is opened, and what still holds."""
    replies, path = daemon
    lock = {"lock": "3565aa47", "kind": "usb", "code": "usb.storage", "subject": "0951:1666", "since": 0.0}
    replies["lockdown.list"] = {"result": {"locks": [lock | {"persists": True}]}}
    listed = invoke("lockdown", "list", "--socket", path)
    assert listed.exit_code == 1
    line = "3565aa47  usb.storage (0951:1666), since 1970-01-01 00:00:00 UTC, its cause still holds"
    assert listed.output.splitlines() == [line]
    refusal = {"code": "lockdown.cause_persists", "retry": True, "advice": "end the cause first"}
    replies["lockdown.clear"] = {"error": {"code": -32000, "message": "usb.storage still holds", "data": refusal}}
    refused = invoke("lockdown", "clear", "3565aa47", "--socket", path)
    assert refused.exit_code == 1
    assert "usb.storage still holds; end the cause first (lockdown.cause_persists)" in refused.output
    replies["lockdown.clear"] = {"result": {"locks": []}}
    cleared = invoke("lockdown", "clear", "3565aa47", "--socket", path)
    assert (cleared.exit_code, cleared.output) == (0, "no lock: sessions are opened\n")
    assert invoke("lockdown", "list", "--socket", f"{path}.none").exit_code == 69


def test_status_shows_each_component(daemon):
    replies, socket = daemon
    state = {
        "idcard": {"state": "offline", "code": "idcard.offline"},
        "printer": {"state": "online", "identity": "80mm", "details": {"paper": "low"}},
    }
    replies["terminal.status"] = {"result": {"version": "0.1.0", "boot_id": "b", "rig": True, "state": state}}
    done = invoke("status", "--socket", socket)
    assert done.exit_code == 0
    for word in ("0.1.0", "not a real terminal", "idcard.offline", "80mm", "paper=low"):
        assert word in done.output
    as_json = invoke("status", "--socket", socket, "--json")
    assert json.loads(as_json.output)["state"] == state


def test_call_prints_the_result_and_tells_a_refusal(daemon):
    replies, socket = daemon
    replies["session.open"] = {"result": {"session": "王"}}
    refusal = {"code": "session.unknown", "retry": False, "advice": "open one"}
    replies["session.close"] = {"error": {"code": -32000, "message": "no such session", "data": refusal}}
    assert invoke("call", "session.open", "--socket", socket).output == '{\n  "session": "王"\n}\n'
    done = invoke("call", "session.close", '{"session": "x"}', "--socket", socket)
    assert (done.exit_code, done.stderr) == (1, "govterm: no such session; open one (session.unknown)\n")


@pytest.mark.parametrize("parameters", ["[1]", "{", "3"])
def test_parameters_that_are_no_object_are_wrong_usage(parameters):
    done = invoke("call", "terminal.status", parameters)
    assert done.exit_code == 2
    assert "not a JSON object" in done.stderr


def test_no_daemon_is_one_line_and_its_own_exit_code(tmp_path):
    done = invoke("status", "--socket", str(tmp_path / "none"))
    assert done.exit_code == 69
    assert done.stderr.count("\n") == 1
    assert "start it" in done.stderr


def test_models_that_are_missing_are_listed_and_told(tmp_path):
    done = invoke("models", "list", "--directory", str(tmp_path / "none"))
    assert done.exit_code == 1
    assert "missing" in done.stdout
    assert "govterm models prepare" in done.stderr


def test_units_are_written_below_a_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.units._HIDDEN", ())  # a checkout may lie below /home
    done = invoke("units", "--output", str(tmp_path))
    assert done.exit_code == 0
    assert (tmp_path / "etc/systemd/system/govterm.service").is_file()
    assert "systemctl daemon-reload" in done.stderr
    assert "Warning: without --config" in done.stderr
    (tmp_path / "file").write_text("")
    refused = invoke("units", "--output", str(tmp_path / "file"))
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)


def test_units_are_narrowed_to_what_a_configuration_names(tmp_path, monkeypatch):
    """T20."""
    monkeypatch.setattr("runtime.units._HIDDEN", ())
    config = tmp_path / "govterm.toml"
    config.write_text(EXAMPLE.replace("broker.example.gov.cn", "192.0.2.1"))
    done = invoke("units", "--output", str(tmp_path), "--config", str(config))
    assert (done.exit_code, "Warning" in done.stderr) == (0, False)
    drop_in = tmp_path / "etc/systemd/system/govterm.service.d/10-egress.conf"
    assert "IPAddressAllow=192.0.2.1\n" in drop_in.read_text()
    config.write_text("")
    refused = invoke("units", "--output", str(tmp_path), "--config", str(config))
    assert refused.exit_code == 1
    assert f"{config}: platform: expected" in refused.stderr


def test_a_command_whose_extra_is_missing_says_how_to_get_it(monkeypatch):
    app = cli.typer.Typer()
    monkeypatch.setattr(cli, "app", app)
    app.command("own")(lambda: None)
    cli._add(EntryPoint("demo", "a_module_nobody_has:demo", "govterm.commands"))
    done = CliRunner().invoke(app, ["demo", "--once", "--json"])
    assert done.exit_code == 69
    assert done.stderr == (
        "govterm: `demo` needs the extra `rig`, a_module_nobody_has is missing; "
        "install the wheel with its extra: pip install 'govterm-VERSION.whl[rig]'\n"
    )


def test_commands_and_groups_of_extras_are_added(monkeypatch):
    app = cli.typer.Typer()
    monkeypatch.setattr(cli, "app", app)
    for name in ("demo", "rig"):
        cli._add(EntryPoint(name, f"sim.cli:{name}", "govterm.commands"))
    for name in ("demo", "rig"):
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


def test_the_installed_command_works_and_the_daemon_loads_none_of_it(tmp_path):
    command = os.path.join(os.path.dirname(sys.executable), "govterm")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    heavy = ["typer", "rich", "numpy", "cv2", "onnxruntime", "jinja2", "PIL", "pypdfium2", "click"]
    probe = (
        "import sys, runtime.__main__ as daemon\n"
        "sys.argv = ['x', '--help']\n"
        "try: daemon.run()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy} if sys.modules.get(name)])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
