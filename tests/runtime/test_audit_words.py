"""What docs/audit.md and docs/wire-format.md say of staff, windows and seals is what the code does."""

import re
from pathlib import Path

import msgspec
import pytest

from runtime import approvals, audit, audit_chain, audit_seal, staff, staff_accounts
from runtime.api.methods import METHODS
from runtime.messages import CATALOGUE
from runtime.messages import audit as words

DOCS = Path(__file__).parents[2] / "docs"
AUDIT, WIRE = (re.sub(r"\s+", " ", (DOCS / name).read_text()) for name in ("audit.md", "wire-format.md"))


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (r"end at most (\d+) days later", words.LONGEST_GRANT_SECONDS / 86_400),
        (r"an end at most (\d+) h later", words.LONGEST_WINDOW_SECONDS / 3_600),
        (r"refused (\d+) times within", staff.MOST_REFUSALS),
        (r"times within (\d+) min is the alarm `staff.abnormal`", staff.REFUSALS_SECONDS / 60),
        (r"refusal names, within (\d+) min", approvals.APPROVAL_SECONDS / 60),
        (r"A file of (\d+) MiB is sealed", audit_seal.FILE_BYTES / 2**20),
        (r"The log may take (\d+) MiB", audit_seal.BUDGET_BYTES / 2**20),
        (r"to be older than (\d+) days", audit_chain.KEPT_SECONDS / 86_400),
        (r"a reserve of (\d+) KiB", audit.RESERVE_BYTES / 1_024),
        (r"lives for more than (\d+) days", staff_accounts.OLDEST_PASSWORD_DAYS),
        (r"\(uid below (\d+)\)", staff_accounts.FIRST_PERSON_UID),
    ],
)
def test_a_number_of_the_audit_page_is_what_the_code_does(said, number):
    (found,) = re.findall(said, AUDIT)
    assert float(found) == number


def test_the_longest_times_on_the_wire_are_the_codes():
    (days, hours) = re.findall(r"for at most (\d+) days, a window for at most (\d+) hours", WIRE)[0]
    assert int(days) * 86_400 == words.LONGEST_GRANT_SECONDS
    assert int(hours) * 3_600 == words.LONGEST_WINDOW_SECONDS


@pytest.mark.parametrize("kind", [words.StaffGrant, words.RemoteWindow, words.StaffRevocation])
def test_each_command_and_its_fields_are_in_the_table(kind):
    (row,) = re.findall(rf"\| `{CATALOGUE[kind].schema}` \|(.*?)\|", WIRE)
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    assert re.findall(r"`(\w+): ", row) == names


def test_each_field_of_a_seal_is_named_in_order():
    (fields,) = re.findall(r"`audit.seal` version 1, `\{(.*?)\}`", WIRE)
    names = [field.encode_name for field in msgspec.structs.fields(words.AuditSeal)]
    assert [field.split(":")[0] for field in fields.split(", ")] == names


def test_the_acts_that_need_two_persons_are_named():
    sensitive = {method.name for method in METHODS if method.is_sensitive}
    assert sensitive == {"devices.accept", "lockdown.clear", "payments.reverse"}
    (said,) = re.findall(r"\*\*Two persons\.\*\*(.*?) are refused", AUDIT)
    assert set(re.findall(r"`([a-z]+\.[a-z]+)`", said)) == sensitive


def test_what_is_signed_is_told_by_the_terminal_and_field_for_field():
    grant = words.StaffGrant("g", "zhang", "operator", True, 1, 2, b"")
    window = words.RemoteWindow("w", ("zhang",), "b", 1, 2, b"")
    told = [msgspec.msgpack.decode(words.word_content("GT-0001", word)) for word in (grant, window)]
    assert told == [
        ["govterm-staff-grant", 1, "GT-0001", "g", "zhang", "operator", True, 1, 2],
        ["govterm-remote-window", 1, "GT-0001", "w", ["zhang"], "b", 1, 2],
    ]


def test_the_rules_for_passwords_are_those_that_units_writes():
    written = (DOCS.parent / "systemd/pwquality.conf").read_text()
    rules = [line for line in written.splitlines() if not line.startswith("#")]
    assert "\n".join(rules) in (DOCS / "audit.md").read_text()
