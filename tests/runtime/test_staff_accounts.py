"""One Unix account for each person, with a password that ages (H6)."""

import pwd

import pytest
from typer.testing import CliRunner

from runtime.cli import app
from runtime.config import Api
from runtime.reference import EXAMPLE
from runtime.staff_accounts import check_accounts

SHADOW = """\
root:$y$j9T$abc:20000:0:99999:7:::
zhang:$y$j9T$abc:20000:0:90:14:7::
li:$y$j9T$abc:20000:0:99999:7:::
wang:$y$j9T$abc:20000:0::7:::
zhao::20000:0:90:7:::
key:!:20000:0:99999:7:::
"""


def account(name: str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, "", "/nonexistent", "/bin/sh"))


ACCOUNTS = [
    account("root", 0),
    account("zhang", 1_201),
    account("li", 1_202),
    account("wang", 1_203),
    account("zhao", 1_204),
    account("key", 1_205),
    account("duty", 1_206),
    account("shift", 1_206),
    account("www", 33),
]


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("zhang", None),
        ("key", None),
        ("li", "expires after 90 days"),
        ("wang", "expires after 90 days"),
        ("zhao", "with a password"),
        ("root", "a person's account"),
        ("www", "a person's account"),
        ("duty", "shares its uid"),
        ("1201", "an account's name"),
        ("nobody-here", "an account of this machine"),
    ],
)
@pytest.mark.parametrize("key", ["operator_users", "tester_users"])
def test_what_is_wrong_with_an_account_is_a_mistake(tmp_path, user, expected, key):
    shadow = tmp_path / "shadow"
    shadow.write_text(SHADOW)
    mistakes = check_accounts(Api(ui_users=("kiosk",), **{key: (user,)}), shadow, ACCOUNTS)
    if expected is None:
        assert mistakes == []
    else:
        assert mistakes[0].key == f"api.{key}"
        assert expected in mistakes[0].expected


def test_who_cannot_read_the_passwords_sees_the_rest(tmp_path):
    api = Api(ui_users=("kiosk",), operator_users=("li", "duty"))
    unknown, mistake = check_accounts(api, tmp_path / "missing", ACCOUNTS)
    assert "shares its uid" in mistake.expected
    assert (unknown.key, unknown.found) == (str(tmp_path / "missing"), "unknown"), "and that passwords are unknown"
    assert check_accounts(Api(ui_users=("kiosk",)), tmp_path / "missing", ACCOUNTS) == [], "nobody is staff"


def test_where_the_platform_grants_no_roles_nothing_is_asked(tmp_path):
    api = Api(ui_users=("kiosk",), operator_users=("root", "1201"), staff="listed")
    assert check_accounts(api, tmp_path / "missing", ACCOUNTS) == []


def test_the_command_lists_them_as_mistakes(tmp_path):
    file = tmp_path / "govterm.toml"
    file.write_text(EXAMPLE)  # its operator is root
    assert CliRunner().invoke(app, ["check", str(file)]).exit_code == 0
    done = CliRunner().invoke(app, ["check", "--staff", str(file)])
    assert done.exit_code == 1
    assert "api.operator_users: expected a person's account" in done.output
