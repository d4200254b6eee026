"""Receipt numbers: made by the terminal, random, with a check character that finds a mistyped one (T8, T11, H2).

`A-7K2M-Q9XD-4`: the kind, 40 random bits and the check, in Crockford's Base32 (no I, L, O, U). The check is a weighted
sum in GF(32): any one wrong character and any two that changed places are found.
"""

import secrets
from typing import Literal

ReceiptKind = Literal["application", "certificate", "hotline", "payment"]

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1", " ": None, "-": None})
_LETTERS: dict[ReceiptKind, str] = {"application": "A", "certificate": "C", "hotline": "H", "payment": "P"}
_RANDOM_CHARACTERS = 8
_LONGEST = 32


def new_receipt(kind: ReceiptKind) -> str:
    """Return a new number."""
    return _written(_LETTERS[kind] + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARACTERS)))


def read_receipt(typed: str) -> str | None:
    """Return the number as it was given out, however it was typed; None when it cannot be one."""
    plain = typed.upper().translate(_READ_AS) if len(typed) <= _LONGEST else ""
    if len(plain) != _RANDOM_CHARACTERS + 2 or plain[0] not in _LETTERS.values():
        return None
    number = _written(plain[:-1]) if all(character in _ALPHABET for character in plain) else None
    return number if number is not None and number[-1] == plain[-1] else None


def _written(body: str) -> str:
    return f"{body[0]}-{body[1:5]}-{body[5:]}-{_check(body)}"


def _check(body: str) -> str:
    total = 0
    for character in body:
        total = _double(total ^ _ALPHABET.index(character))
    return _ALPHABET[total]


def _double(value: int) -> int:
    """Multiply by x in GF(32), modulo x^5 + x^2 + 1."""
    value <<= 1
    return value ^ 0b100101 if value & 0b100000 else value
