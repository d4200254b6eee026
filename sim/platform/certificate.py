"""Writes the certificates of synthetic citizens as PDF, in receipt format (T7)."""

import datetime
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fpdf import FPDF

from sim.people import Citizen

WIDTHS_MILLIMETRES = range(40, 111)
"""Printable widths it sets pages for: 58 mm paper prints 48 mm, 80 mm paper 72 mm."""

_MARGIN = 2.0
_TITLE_POINTS, _TITLE_LINE = 15, 9.0
_TEXT_POINTS, _TEXT_LINE = 9, 4.6
_STAMP = 26.0
_MILLIMETRES_PER_POINT = 25.4 / 72


@dataclass(frozen=True, slots=True)
class Kind:
    """A certificate that the platform knows: its title, who issues it and what it says of a citizen."""

    title: str
    issuer: str
    rows: Callable[[Citizen], list[tuple[str, str]]]
    statement: str


def _chance(citizen: Citizen) -> random.Random:
    return random.Random(f"certificate {citizen.id_number}")


def _social_insurance(citizen: Citizen) -> list[tuple[str, str]]:
    chance = _chance(citizen)
    return [
        ("参保单位", f"样本市虚构{chance.choice(('机械', '纺织', '软件', '食品'))}有限公司"),
        ("参保险种", "养老保险、失业保险、工伤保险"),
        ("参保状态", "正常参保"),
        ("首次参保", f"{chance.randrange(2000, 2020)}年{chance.randrange(1, 13)}月"),
        ("累计缴费", f"{chance.randrange(12, 240)}个月"),
    ]


def _no_property(citizen: Citizen) -> list[tuple[str, str]]:
    return [("查询范围", "样本市行政区域"), ("住所", citizen.address), ("登记情况", "无不动产登记信息")]


def _tax_record(citizen: Citizen) -> list[tuple[str, str]]:
    chance = _chance(citizen)
    paid = [chance.randrange(10_000, 900_000) / 100 for _ in range(3)]
    years = [(f"{2022 + index}年度", f"已缴个人所得税 {amount:,.2f} 元") for index, amount in enumerate(paid)]
    return [*years, ("合计", f"{sum(paid):,.2f} 元")]


KINDS = {
    "social_insurance_enrolment": Kind(
        "社会保险参保证明", "样本市社会保险事业中心", _social_insurance, "兹证明上述人员在本市参加社会保险。"
    ),
    "no_property": Kind("无不动产登记证明", "样本市不动产登记中心", _no_property, "兹证明未查到上述人员的不动产登记。"),
    "tax_record": Kind("个人所得税纳税记录", "国家税务总局样本市税务局", _tax_record, "兹证明上述人员的纳税情况属实。"),
}


def write_certificate(
    kind: Kind, citizen: Citizen, *, number: str, issued_at: int, width_millimetres: int, font: Path
) -> bytes:
    """Return the certificate as a PDF of one page, as wide as the paper prints and as long as its text.

    `issued_at` is in seconds since 1970 and printed as a date of China; `font` is a font with Chinese characters.
    """
    day = datetime.datetime.fromtimestamp(issued_at, datetime.timezone(datetime.timedelta(hours=8)))
    rows = [
        ("姓名", citizen.name),
        ("性别", citizen.sex_name),
        ("身份号码", citizen.id_number),
        *kind.rows(citizen),
        ("证明编号", number),
        ("出具日期", f"{day.year}年{day.month}月{day.day}日"),
    ]
    pdf = FPDF(unit="mm")
    pdf.set_creation_date(day)
    pdf.set_title(kind.title)
    pdf.set_margin(_MARGIN)
    pdf.c_margin = 0
    pdf.set_auto_page_break(auto=False)
    pdf.add_font("chinese", fname=font)
    pdf.set_font("chinese", size=_TEXT_POINTS)
    room = width_millimetres - 2 * _MARGIN
    said = [*(f"{label}：{value}" for label, value in rows), "", kind.statement, "本证明由模拟平台出具，不具效力。"]
    lines = [line for text in said for line in _wrap(pdf, text, room)]
    height = 3 * _MARGIN + _TITLE_LINE + len(lines) * _TEXT_LINE + _STAMP
    pdf.add_page(format=(width_millimetres, height))
    pdf.set_font("chinese", size=min(_TITLE_POINTS, int(room / len(kind.title) / _MILLIMETRES_PER_POINT)))
    pdf.cell(0, _TITLE_LINE, kind.title, align="C", new_x="LMARGIN", new_y="NEXT")
    pdf.line(_MARGIN, pdf.get_y(), width_millimetres - _MARGIN, pdf.get_y())
    pdf.set_y(pdf.get_y() + _MARGIN)
    pdf.set_font("chinese", size=_TEXT_POINTS)
    for line in lines:
        pdf.cell(0, _TEXT_LINE, line, new_x="LMARGIN", new_y="NEXT")
    _stamp(pdf, kind.issuer, width_millimetres - _MARGIN - _STAMP / 2, pdf.get_y() + _STAMP / 2)
    return bytes(pdf.output())


def _wrap(pdf: FPDF, text: str, room: float) -> list[str]:
    """Cut `text` into lines of at most `room` millimetres; a line starts with no full stop, which may stand over."""
    lines, line = [], ""
    for character in text:
        if pdf.get_string_width(line + character) > room and character not in "，。、）":
            lines.append(line)
            line = ""
        line += character
    return [*lines, line]


def _stamp(pdf: FPDF, issuer: str, x: float, y: float) -> None:
    """Draw a round seal, its issuer in two lines around a star, centred at (x, y)."""
    pdf.set_line_width(0.6)
    pdf.circle(x, y, _STAMP / 2 - 1)
    half = (len(issuer) + 1) // 2
    pdf.set_font("chinese", size=7)
    for offset, line in ((-6.5, issuer[:half]), (-1.5, "★"), (3.5, issuer[half:])):
        pdf.set_xy(x - _STAMP / 2, y + offset)
        pdf.cell(_STAMP, 3.5, line, align="C")
