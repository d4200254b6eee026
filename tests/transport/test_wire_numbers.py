"""The numbers of docs/wire-format.md are the code's."""

import re
from pathlib import Path

import pytest

from transport import envelope, line, line_keys, outbox, parts

DOCUMENT = re.sub(r"\s+", " ", (Path(__file__).parents[2] / "docs/wire-format.md").read_text())


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (r"asks again every ([\d,]+) s;", line_keys.ASK_AGAIN_SECONDS),
        (r"after ([\d.]+) of their life", line_keys.ROTATE_AT),
        (r"takes no more than ([\d,]+)\.", line_keys.KEY_LIFE_SECONDS),
        (r"keys before for another ([\d,]+) s;", line_keys.OVERLAP_SECONDS),
        (r"still opens the ones before for ([\d,]+) s\.", line_keys.OVERLAP_SECONDS),
        (
            r"hears nothing sealed under its keys for ([\d,]+) s \(or for `platform.answer_seconds`",
            line.SILENCE_SECONDS,
        ),
        (r"from the receipt after ([\d,]+) s without one", outbox.RESEND_SECONDS),
        (r"plaintext is at most ([\d,]+) bytes", envelope.MAX_PLAINTEXT_BYTES),
        (r"longer than ([\d,]+) bytes travels in parts", parts.PART_BYTES),
    ],
)
def test_a_number_is_what_the_code_does(said, number):
    (found,) = re.findall(said, DOCUMENT)
    assert float(found.replace(",", "")) == number
