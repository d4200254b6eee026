"""The bank behind the reference platform's payments: synthetic accounts, a PIN each, and a ledger that counts fen.

Accounts are made up on the way: every card number that checks has one, as have telephones. The ledger is what a test
counts: charged less given back.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from typing import Literal

from devices.cardreader.tracks import luhn_valid, split_track2
from runtime.messages.payment import CardCharge
from sim.devices import pinblock
from sim.devices.pinpad import MASTER_KEYS

PIN = "123456"
"""The PIN of every synthetic card that was given no other."""
BALANCE_FEN = 1_000_000
MOST_WRONG_PINS = 3

SCHEMA = """
CREATE TABLE IF NOT EXISTS bank_accounts (
    number TEXT PRIMARY KEY, pin TEXT NOT NULL, balance_fen INTEGER NOT NULL, is_blocked INTEGER NOT NULL DEFAULT 0,
    wrong_pins INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS bank_ledger (
    id INTEGER PRIMARY KEY, order_id TEXT NOT NULL, kind TEXT NOT NULL, account TEXT NOT NULL,
    amount_fen INTEGER NOT NULL, at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pin_keys (
    terminal TEXT PRIMARY KEY, algorithm TEXT NOT NULL, key BLOB NOT NULL);
"""

Algorithm = Literal["sm4", "3des"]


class BankRefusal(Exception):
    """The bank does not charge; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Bank:
    """The bank, in the platform's database."""

    database: sqlite3.Connection

    def __post_init__(self) -> None:
        self.database.executescript(SCHEMA)

    def new_pin_key(self, terminal: str, algorithm: Algorithm) -> tuple[bytes, bytes]:
        """Make a terminal's PIN key and return it under its pad's master key, with its check value."""
        key = secrets.token_bytes(16)
        self.database.execute("INSERT OR REPLACE INTO pin_keys VALUES (?, ?, ?)", (terminal, algorithm, key))
        wrapped = pinblock.encrypt(algorithm, MASTER_KEYS[algorithm], key)
        return wrapped, pinblock.check_value(algorithm, key)

    def set_account(self, number: str, pin: str, balance_fen: int, *, blocked: bool) -> None:
        """Give an account another PIN, balance or state."""
        row = (number, pin, balance_fen, int(blocked))
        self.database.execute("INSERT OR REPLACE INTO bank_accounts VALUES (?, ?, ?, ?, 0)", row)

    def card(self, terminal: str, charge: CardCharge) -> str:
        """Return the account of a card whose PIN is right; raise BankRefusal."""
        number = _number(charge)
        pin, blocked, wrong = self.database.execute(
            "SELECT pin, is_blocked, wrong_pins FROM bank_accounts WHERE number = ?", (self._account(number),)
        ).fetchone()
        if blocked:
            raise BankRefusal("payment.card_refused")
        if wrong >= MOST_WRONG_PINS:
            raise BankRefusal("payment.pin_tries")
        row = self.database.execute("SELECT algorithm, key FROM pin_keys WHERE terminal = ?", (terminal,)).fetchone()
        if row is None:
            raise BankRefusal("payment.pin_key_unknown")
        if pinblock.pin_block(row[0], row[1], pin, number[-13:-1]) != charge.pin_block:
            self.database.execute("UPDATE bank_accounts SET wrong_pins = wrong_pins + 1 WHERE number = ?", (number,))
            raise BankRefusal("payment.wrong_pin")
        self.database.execute("UPDATE bank_accounts SET wrong_pins = 0 WHERE number = ?", (number,))
        return number

    def charge(self, order: str, account: str, amount_fen: int, at: int) -> None:
        """Charge an account; raise BankRefusal where it has not so much."""
        balance = self.database.execute(
            "SELECT balance_fen FROM bank_accounts WHERE number = ?", (self._account(account),)
        ).fetchone()[0]
        if balance < amount_fen:
            raise BankRefusal("payment.insufficient_funds")
        self._book(order, "charge", account, amount_fen, at)

    def give_back(self, order: str, at: int) -> None:
        """Give back all that an order was charged and did not get back."""
        statement = """
            SELECT account, sum(CASE kind WHEN 'charge' THEN amount_fen ELSE -amount_fen END) FROM bank_ledger
            WHERE order_id = ? GROUP BY account"""
        for account, amount in self.database.execute(statement, (order,)).fetchall():
            if amount:
                self._book(order, "reversal", account, amount, at)

    def total(self, kind: str) -> int:
        """Return the sum of all charges or reversals, in fen."""
        statement = "SELECT coalesce(sum(amount_fen), 0) FROM bank_ledger WHERE kind = ?"
        return int(self.database.execute(statement, (kind,)).fetchone()[0])

    def _account(self, number: str) -> str:
        row = (number, PIN, BALANCE_FEN)
        self.database.execute("INSERT OR IGNORE INTO bank_accounts VALUES (?, ?, ?, 0, 0)", row)
        return number

    def _book(self, order: str, kind: str, account: str, amount_fen: int, at: int) -> None:
        row = (order, kind, account, amount_fen, at)
        self.database.execute(
            "INSERT INTO bank_ledger (order_id, kind, account, amount_fen, at) VALUES (?, ?, ?, ?, ?)", row
        )
        change = -amount_fen if kind == "charge" else amount_fen
        self.database.execute(
            "UPDATE bank_accounts SET balance_fen = balance_fen + ? WHERE number = ?", (change, account)
        )


def _number(charge: CardCharge) -> str:
    """Return the card number of track 2 data, of a chip or a stripe; raise BankRefusal `payment.bad_card_data`."""
    text = charge.track2.hex().upper().rstrip("F") if charge.emv else charge.track2.decode("ascii", "replace")
    found = split_track2(text)
    if found is None or not luhn_valid(found[0]):
        raise BankRefusal("payment.bad_card_data")
    return found[0]
