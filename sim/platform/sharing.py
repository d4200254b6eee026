"""What the reference platform shares: made-up rows, the same every time from the seed, and data sets of some MB."""

import functools
import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sim.people import Citizen

Row = dict[str, Any]

DATASETS = {"service_matters": 8_000, "open_government": 2_000}
"""The resources that are shared as data sets, and how many rows the first version of each has."""
PAGE_ROWS = 20

_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_DEPARTMENTS = ("样本市政务服务局", "样本市人力资源局", "样本市自然资源局", "样本市市场监管局", "样本市民政局")
_THINGS = ("居住证", "营业执照", "不动产登记", "社会保险", "道路占用", "户外广告", "食品经营", "医师执业")
_ACTS = ("申领", "变更", "注销", "补办", "年审", "备案")
_MATERIALS = ("身份证", "申请表", "授权委托书", "营业执照副本", "房屋租赁合同", "近期照片", "既往证照原件")
_ENTERPRISES = ("样本商贸有限公司", "示例科技有限公司", "虚构餐饮有限公司", "模拟物流有限公司")
_SUMMARY = "为规范办理程序、方便群众办事，现将有关事项予以公开。本文所称单位、人员和数据均为虚构，仅供演示。"


def credit_code(seed: int, index: int) -> str:
    """Return the unified social credit code (GB 32100, check character as the standard computes it) of an enterprise.

    Its division is 990101, which no province has.
    """
    source = random.Random(f"enterprise {seed} {index}")
    body = "91990101" + "".join(source.choice(_ALPHABET) for _ in range(9))
    total = sum(_ALPHABET.index(one) * 3**place % 31 for place, one in enumerate(body))
    return body + _ALPHABET[(31 - total % 31) % 31]


def found(resource: str, seed: int, parameters: Mapping[str, Any], citizen: Citizen | None) -> list[Row]:
    """Return the rows that a query of or a call to a resource finds."""
    return _FINDERS[resource](seed, parameters, citizen)


@functools.lru_cache(maxsize=4)
def dataset(resource: str, seed: int, version: int, rows: int) -> bytes:
    """Return a version of a data set, a JSON object a line; each version changes some rows and has one more."""
    maker = {"service_matters": _matter, "open_government": _notice}[resource]
    return b"".join(msgspec.json.encode(maker(seed, index, version)) + b"\n" for index in range(rows + version - 1))


def _matter(seed: int, index: int, version: int) -> Row:
    source = random.Random(f"matter {seed} {index}")
    department, thing, act = source.choice(_DEPARTMENTS), source.choice(_THINGS), source.choice(_ACTS)
    days = source.randrange(1, 60)
    return {
        "code": f"m{index:06d}",
        "title": f"{thing}{act}（{index}号事项）",
        "department": department,
        "place": f"样本市样本区测试路{source.randrange(1, 400)}号政务服务大厅{source.randrange(1, 60)}号窗口",
        "days": max(1, days - version) if index % 7 == version % 7 else days,
        "fee_fen": source.choice((0, 0, 0, 1_000, 8_000)),
        "materials": source.sample(_MATERIALS, source.randrange(1, 5)),
    }


def _notice(seed: int, index: int, version: int) -> Row:
    source = random.Random(f"notice {seed} {index}")
    thing, department = source.choice(_THINGS), source.choice(_DEPARTMENTS)
    edition = f"（第{version}版）" if index % 5 == version % 5 else ""
    return {
        "id": f"n{index:06d}",
        "title": f"关于{thing}办理事项的公告{edition}",
        "department": department,
        "published": f"2026-{source.randrange(1, 13):02d}-{source.randrange(1, 29):02d}",
        "summary": _SUMMARY,
    }


def _searched(maker: Callable[[int, int, int], Row], seed: int, parameters: Mapping[str, Any]) -> list[Row]:
    page, words = parameters.get("page", 1), parameters.get("words", "")
    rows = [row for index in range(200) if words in (row := maker(seed, index, 1))["title"]]
    return rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]


def _notices(seed: int, parameters: Mapping[str, Any], _citizen: Citizen | None) -> list[Row]:
    return _searched(_notice, seed, parameters)


def _matters(seed: int, parameters: Mapping[str, Any], _citizen: Citizen | None) -> list[Row]:
    return _searched(_matter, seed, parameters)


def _enterprise(seed: int, code: str) -> str | None:
    codes = {credit_code(seed, index): name for index, name in enumerate(_ENTERPRISES)}
    return codes.get(code)


def _supervision(seed: int, parameters: Mapping[str, Any], _citizen: Citizen | None) -> list[Row]:
    code = parameters["credit_code"]
    name = _enterprise(seed, code)
    if name is None:
        return []
    source = random.Random(f"supervision {seed} {code}")
    return [
        {
            "credit_code": code,
            "enterprise": name,
            "checked": f"2026-{month:02d}-{source.randrange(1, 29):02d}",
            "department": "样本市市场监管局",
            "result": source.choice(("合格", "合格", "整改中", "不合格")),
        }
        for month in range(1, source.randrange(3, 10))
    ]


def _registration(seed: int, parameters: Mapping[str, Any], _citizen: Citizen | None) -> list[Row]:
    code = parameters["credit_code"]
    is_known = _enterprise(seed, code) is not None
    return [{"credit_code": code, "registered": is_known, "state": "存续" if is_known else "无"}]


def _contributions(_seed: int, parameters: Mapping[str, Any], citizen: Citizen | None) -> list[Row]:
    if citizen is None:
        return []
    source = random.Random(f"contributions {citizen.id_number}")
    base, employer = source.randrange(4_000, 20_000) * 100, source.choice(_ENTERPRISES)
    months = [f"2026-{month:02d}" for month in range(1, 13)]
    first, last = parameters.get("first_month", months[0]), parameters.get("last_month", months[-1])
    return [
        {
            "name": citizen.name,
            "id_number": citizen.id_number,
            "month": month,
            "employer": employer,
            "base_fen": base,
        }
        for month in months
        if first <= month <= last
    ]


def _household(_seed: int, _parameters: Mapping[str, Any], citizen: Citizen | None) -> list[Row]:
    if citizen is None:
        return []
    about = {"name": citizen.name, "id_number": citizen.id_number, "registered_place": citizen.address}
    return [about | {"registered": True}]


_FINDERS: dict[str, Callable[[int, Mapping[str, Any], Citizen | None], list[Row]]] = {
    "open_government": _notices,
    "service_matters": _matters,
    "supervision_results": _supervision,
    "enterprise_check": _registration,
    "social_insurance": _contributions,
    "household_check": _household,
}
