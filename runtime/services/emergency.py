"""Knows an emergency by its words, here and at once: the hotline is no place for it (H4).

A word too many costs one question, a word too few may cost a life: the list is short and plain, the compounds that say
something harmless are taken out first, and a citizen who says that nobody is in danger is served.
"""

import unicodedata
from dataclasses import dataclass

WORDS: dict[str, tuple[str, ...]] = {
    "110": (
        *("救命", "杀人", "行凶", "持刀", "砍人", "抢劫", "绑架", "正在打架", "打起来了", "正在家暴", "正在打我"),
        *("跳楼", "自杀", "轻生"),
    ),
    "119": (
        *("着火", "著火", "起火", "失火", "大火", "火灾", "浓烟", "爆炸", "被困"),
        *("煤气泄漏", "燃气泄漏", "天然气泄漏", "漏煤气", "漏燃气", "煤气味"),
    ),
    "120": (
        *("有人受伤", "受重伤", "昏迷", "晕倒", "大出血", "没有呼吸", "没呼吸", "没有心跳", "心脏病发作", "溺水"),
        *("煤气中毒", "食物中毒"),
    ),
}
"""What calls for which number: police, fire and rescue, ambulance."""
HARMLESS = (
    *("救命钱", "救命药", "救命恩人", "火灾隐患", "火灾报警", "火灾保险", "火灾演练", "起火原因", "失火原因"),
    *("着火点", "大火锅", "没着火", "没有着火", "没有受伤", "爆炸性", "易爆炸"),
)
"""Compounds that are about something else."""

_CODES = {"110": "hotline.emergency_police", "119": "hotline.emergency_fire", "120": "hotline.emergency_medical"}


@dataclass(frozen=True, slots=True)
class Emergency:
    """What to dial, and the code of what to tell the citizen."""

    dial: tuple[str, ...]

    @property
    def code(self) -> str:
        """The code of the citizen's text."""
        return _CODES[self.dial[0]] if len(self.dial) == 1 else "hotline.emergency"


ANY = Emergency(tuple(WORDS))
"""Somebody chose the category for emergencies: each number is told."""


def find(text: str) -> Emergency | None:
    """Return what to dial for a text, None where its words tell of no emergency; spaces and punctuation do not hide."""
    plain = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text)))
    for compound in HARMLESS:
        plain = plain.replace(compound, " ")
    dial = tuple(number for number, words in WORDS.items() if any(word in plain for word in words))
    return Emergency(dial) if dial else None
