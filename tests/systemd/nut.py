"""A NUT server on a board, Debian's own with its dummy-ups driver: a UPS that says what it is told to say."""

from tests.systemd.board import SETTINGS, Board

SETTINGS_WITH_UPS = f"""{SETTINGS}
[ups]
port = "nut://mon@127.0.0.1:3493/hall"
password_file = "ups.password"
poll_seconds = 1
"""
_CREDENTIAL = "[Service]\nLoadCredential=ups.password:/etc/govterm/credentials/ups.password\n"
_FILES = {
    "nut.conf": "MODE=standalone\n",
    "ups.conf": "[hall]\n driver = dummy-ups\n port = hall.dev\n mode = dummy-once\n pollinterval = 1\n",
    "upsd.conf": "LISTEN 127.0.0.1 3493\n",
    "upsd.users": "[mon]\n password = mains\n upsmon primary\n instcmds = ALL\n",
}


def serve_nut(board: Board) -> None:
    """Start Debian's units of NUT, with the UPS `hall` on the mains, and let the daemon have its password."""
    for name, text in _FILES.items():
        board.write(f"/etc/nut/{name}", text)
    say(board, "OL", runtime=1_800)
    board.run("systemctl", "unmask", "--quiet", "nut-server.service", "nut-driver.target")
    board.run("systemctl", "start", "nut-driver@hall.service", "nut-server.service")
    board.write("/etc/govterm/credentials/ups.password", "mains")
    board.write("/etc/systemd/system/govterm.service.d/20-ups.conf", _CREDENTIAL)
    board.run("systemctl", "daemon-reload")


def say(board: Board, status: str, *, runtime: int) -> None:
    """Let the UPS say this status and this many seconds of runtime from now on."""
    told = f"ups.mfr: Test\nups.status: {status}\nbattery.charge: {runtime // 18}\nbattery.runtime: {runtime}\n"
    board.write("/etc/nut/hall.dev", told)
    board.run("chgrp", "nut", "/etc/nut/hall.dev")
