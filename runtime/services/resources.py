"""The resources that the platform may share: what each one's rows are, how old they may be, whose they are (S1, S3).

A resource with personal rows is used by a verified citizen about himself, and is never kept as a data set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from devices.personal import Kind

Subject = Literal["open_government", "matters", "supervision", "agreed"]
"""What kind of information it is, in the words of the agreement."""

_HOUR = 3_600
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource. `rows` is the JSON Schema of a row, `parameters` that of a query's or call's parameters.

    `personal` is how each personal column is masked for a human's eye (T22); empty where no column is. Each row of such
    a resource has the `id_number` of whom it is about.
    """

    name: str
    kind: Subject
    title: str
    title_en: str
    freshness_seconds: int
    rows: dict[str, Any]
    parameters: dict[str, Any]
    personal: Mapping[str, Kind] = field(default_factory=dict)


def _object(required: tuple[str, ...], **properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that has these properties and no others."""
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


def _text(longest: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest}


def _count(most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": most}


_DATE = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
_MONTH = {"type": "string", "pattern": r"^\d{4}-\d{2}$"}
_CODE = {"type": "string", "pattern": "^[a-z0-9_]{1,64}$"}
_CREDIT_CODE = {"type": "string", "pattern": "^[0-9A-HJ-NPQRTUWXY]{18}$"}  # GB 32100
_WORDS = {"type": "string", "maxLength": 60}
_PAGE = {"type": "integer", "minimum": 1, "maximum": 1_000}

RESOURCES: tuple[Resource, ...] = (
    Resource(
        "open_government",
        "open_government",
        "政务公开信息",
        "Open government information",
        7 * _DAY,
        _object(
            ("id", "title", "department", "published", "summary"),
            id=_CODE,
            title=_text(100),
            department=_text(60),
            published=_DATE,
            summary=_text(500),
        ),
        _object((), words=_WORDS, page=_PAGE),
    ),
    Resource(
        "service_matters",
        "matters",
        "政务服务事项",
        "Matters of government service",
        _DAY,
        _object(
            ("code", "title", "department", "place", "days", "fee_fen", "materials"),
            code=_CODE,
            title=_text(100),
            department=_text(60),
            place=_text(100),
            days=_count(365),
            fee_fen=_count(100_000_000),
            materials={"type": "array", "items": _text(60), "maxItems": 20},
        ),
        _object((), words=_WORDS, page=_PAGE),
    ),
    Resource(
        "supervision_results",
        "supervision",
        "监管检查结果",
        "Results of supervision",
        _DAY,
        _object(
            ("credit_code", "enterprise", "checked", "department", "result"),
            credit_code=_CREDIT_CODE,
            enterprise=_text(100),
            checked=_DATE,
            department=_text(60),
            result={"enum": ["合格", "不合格", "整改中"]},
        ),
        _object(("credit_code",), credit_code=_CREDIT_CODE),
    ),
    Resource(
        "enterprise_check",
        "agreed",
        "企业登记核验",
        "Check of an enterprise's registration",
        _HOUR,
        _object(
            ("credit_code", "registered", "state"),
            credit_code=_CREDIT_CODE,
            registered={"type": "boolean"},
            state={"enum": ["存续", "注销", "吊销", "无"]},
        ),
        _object(("credit_code",), credit_code=_CREDIT_CODE),
    ),
    Resource(
        "social_insurance",
        "agreed",
        "社会保险缴费记录",
        "Social insurance contributions",
        7 * _DAY,
        _object(
            ("name", "id_number", "month", "employer", "base_fen"),
            name=_text(30),
            id_number=_text(18),
            month=_MONTH,
            employer=_text(100),
            base_fen=_count(100_000_000),
        ),
        _object((), first_month=_MONTH, last_month=_MONTH),
        {"name": Kind.NAME, "id_number": Kind.IDENTIFIER},
    ),
    Resource(
        "household_check",
        "agreed",
        "户籍信息核验",
        "Check of a household registration",
        _DAY,
        _object(
            ("name", "id_number", "registered_place", "registered"),
            name=_text(30),
            id_number=_text(18),
            registered_place=_text(100),
            registered={"type": "boolean"},
        ),
        _object(()),
        {"name": Kind.NAME, "id_number": Kind.IDENTIFIER, "registered_place": Kind.ADDRESS},
    ),
)
"""Every resource this release knows."""

BY_NAME = {resource.name: resource for resource in RESOURCES}
