"""An example of every parameter and result, made from its type; it fits the schema, as a test checks (I9)."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

UNSAID = "…"
"""Stands where VALUES has no example of a text."""

_ONLINE = {"state": "online"}
_STATE = {"idcard": {"state": "online", "identity": "SAM-V 05.01"}, "session": {"state": "none"}}
_FORM = {
    "type": "object",
    "properties": {"purpose": {"type": "string", "maxLength": 40}},
    "required": ["purpose"],
}

VALUES: Mapping[str, Any] = {
    "advice": "try again",
    "agreed": True,
    "alarm": "4f1d2c7a",
    "AlarmDraft.text": "安全事件报告……",
    "ApplicationForm.problems": [],
    "boot_id": "7d0c6a4e-52b1-4d6f-9f5a-0a1f6e1c2b3d",
    "certificate": "social_insurance_enrolment",
    "client": "kiosk-ui 3.2",
    "clocks": {},
    "code": None,
    "AlarmEntry.code": "egress.connect",
    "AssistanceGiven.code": "492817",
    "FieldProblem.code": "form.missing",
    "Guidance.code": "idcard.place_card",
    "LeftBehind.code": "idcard.left",
    "Lock.code": "usb.storage",
    "Lock.kind": "usb",
    "Lock.subject": "0951:1666",
    "lock": "3565aa47",
    "act": "9c41d07e",
    "Act.method": "devices.accept",
    "asked_by": "uid 1201 zhang operator:g-0142",
    "approved_by": "uid 1202 li operator:g-0143",
    "Act.parameters": '{"device":"idcard","identity":"SAM-V 05.01"}',
    "OperationFailure.code": "session.ended",
    "Reason.code": "idcard.offline",
    "Ticket.code": "idcard.offline",
    "component": "idcard",
    "Described.components": {"schemas": {}},
    "Described.info": {"title": "govterm local API", "version": "2"},
    "Described.methods": [],
    "Described.notifications": [],
    "Described.openrpc": "1.3.2",
    "department": "市人力资源和社会保障局",
    "Component.details": {},
    "device": "idcard",
    "devices": ["idcard"],
    "digest": "ZsfwwlZx38+hDRGTcW+eoDD1zrLP+dD0t1CR2Is4q+E=",
    "CategoryShown.category": "complaint",
    "CategoryShown.en": "Complaint",
    "CategoryShown.zh": "投诉",
    "EmergencyTold.code": "hotline.emergency_fire",
    "EmergencyTold.en": "Leave the place and dial 119 (fire) at once.",
    "EmergencyTold.zh": "请立即撤离并拨打119。",
    "HotlineShown.dial": ["110", "119", "120"],
    "dial": ["119"],
    "district": "样本区",
    "districts": ["样本区", "模拟区"],
    "emergency_en": "In an emergency dial 110, 119 or 120 at once.",
    "emergency_zh": "紧急情况请立即拨打110、119或120。",
    "ReplyRated.receipt": "H-7K2M-Q9XD-N",
    "ReplyRated.text": "处理及时。",
    "ReplyRated.verdict": "satisfied",
    "reply": "您反映的问题已现场处理完毕。",
    "RequestNamed.receipt": "H-7K2M-Q9XD-N",
    "RequestBegun.receipt": "H-7K2M-Q9XD-N",
    "RequestRegistered.dial": [],
    "RequestRegistered.receipt": "H-7K2M-Q9XD-N",
    "RequestRegistered.stage": "registered",
    "RequestShown.receipt": "H-7K2M-Q9XD-N",
    "RequestWanted.category": "complaint",
    "RequestWanted.scans": [1],
    "RequestWanted.text": "小区门口的路灯不亮已有一周。",
    "stage": "answered",
    "stage_text": "已答复",
    "due_unix": 1800432000,
    "verdict": "satisfied",
    "epoch": "9b1f0c2d3e4a5b6c",
    "error": None,
    "field": "purpose",
    "filler": "",
    "form": _FORM,
    "id": "residence_permit_renewal",
    "Material.id": "lease",
    "TrialCallWanted.id": "trial-1",
    "TrialCallWanted.filler_bytes": 1000,
    "TrialRecordWanted.digest": "GrIdg1XPoX+OYRlIMegajyK+yMcorvt0ftA161CCqis=",
    "TrialRecordWanted.id": "trial-1",
    "id_number": "110*************23",
    "identity": "SAM-V 05.01",
    "ReceiptShown.kind": "application",
    "FaceChecked.layers": {"static": "passed"},
    "kind": "open_government",
    "month": "2026-11",
    "purpose": "citizen_information",
    "resource": "open_government",
    "material": "lease",
    "ApplicationWanted.matter": "residence_permit_renewal",
    "MatterWanted.matter": "residence_permit_renewal",
    "Offer.matter": "residence_permit_renewal",
    "ApplicationBegun.matter": None,
    "message": "the session has ended",
    "method": "session.verify_identity",
    "OperationWanted.params": {"session": "kW3vG8n2Qd5yRt7uXc1bZw"},
    "FaceChecked.model": "w600k_r50",
    "Missing.name": "purpose",
    "name": "张**",
    "CertificateResult.number": "RS-2026-000123",
    "DayWanted.day": "2027-01-14",
    "PaymentDay.day": "2027-01-14",
    "PaymentDay.differences": [],
    "PaymentDay.reconciled_at": 1799950000.0,
    "PaymentOrder.amount_fen": 8000,
    "PaymentOrder.day": "2027-01-14",
    "PaymentOrder.method": "unionpay_qr",
    "PaymentOrder.moved_at": 1799900040.0,
    "PaymentOrder.opened_at": 1799900000.0,
    "PaymentOrder.purpose": "A-RHJE-KTXN-H",
    "PaymentOrder.state": "used",
    "PaymentShown.amount_fen": 8000,
    "PaymentShown.method": "unionpay_qr",
    "PaymentShown.purpose": "A-RHJE-KTXN-H",
    "PaymentShown.qr": None,
    "PaymentShown.state": "paid",
    "PaymentSlip.paper": "printed",
    "PinKeyPressed.key": "star",
    "PaymentWanted.amount_fen": 8000,
    "PaymentWanted.method": "unionpay_qr",
    "PaymentWanted.purpose": "A-RHJE-KTXN-H",
    "order": "P-7K2M-Q9XD-S",
    "operating_point": "terminal",
    "operation": "Yb5kXw2mN0c",
    "receipt": "A-RHJE-KTXN-H",
    "result": None,
    "said": None,
    "seconds": 1.25,
    "sequence": 4711,
    "roles": ["ui"],
    "session": "kW3vG8n2Qd5yRt7uXc1bZw",
    "socket": "/run/govterm/preview.sock",
    "software": "0.1.0",
    "staff": "wang.li",
    "stages": {"detect": 0.011},
    "state": "online",
    "Change.state": _ONLINE,
    "ApplicationFiled.fee": None,
    "ApplicationFiled.missing": [],
    "ApplicationFiled.state": "accepted",
    "OperationState.state": "running",
    "ReceiptShown.state": "accepted",
    "Subscribed.state": _STATE,
    "TerminalStatus.state": _STATE,
    "state_text": "已受理",
    "step": "idcard.read",
    "DocumentProgress.step": "find",
    "TicketStep.step": "answer",
    "subject": "line",
    "text": "办理成功。",
    "ticket": "3c9d01aa",
    "title": "居住证签注",
    "Material.title": "房屋租赁合同",
    "title_en": "Renewal of a residence permit",
    "Material.title_en": "Lease",
    "token": "Jd8s0aXqP2m4Lr6tVw9yBz1cEf3gHk5n",
    "values": {"purpose": "子女入学"},
    "version": 2,
    "ConsentGiven.version": "2026-01",
    "TerminalStatus.version": "0.1.0",
}
"""Examples by `Struct.field`, or by the name of a field wherever it stands."""


_PLAIN: Mapping[type[inspect.Type], Any] = {
    inspect.NoneType: None,
    inspect.BoolType: False,
    inspect.IntType: 1,
    inspect.FloatType: 1.0,
}


BEGUN: Mapping[str, Mapping[str, Any]] = {
    "payment.begin": {
        "state": "open",
        "qr": "https://qr.platform.example/unionpay/0s5v",
        "text": "订单已生成，请支付。",
    },
    "payment.cancel": {"code": "payment.reversed", "state": "reversed", "text": "款项已原路退回，到账时间以银行为准。"},
}
"""What is otherwise in the results of methods that share a Struct with others."""


def example_result(method: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return an example of a method's result."""
    return {**example(kind), **BEGUN.get(method, {})}


def example(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return an example of a Struct as it stands in JSON."""
    return {field.encode_name: _field(kind, field) for field in msgspec.structs.fields(kind)}


def example_params(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return an example of a method's parameters: what is required, and what VALUES names for this very Struct."""
    fields = msgspec.structs.fields(kind)
    named = [field for field in fields if field.required or f"{kind.__name__}.{field.name}" in VALUES]
    return {field.encode_name: _field(kind, field) for field in named}


def _field(kind: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> Any:
    for key in (f"{kind.__name__}.{field.name}", field.name):
        if key in VALUES:
            return VALUES[key]
    return _value(inspect.type_info(field.type))


def _value(info: inspect.Type) -> Any:
    value: Any = _PLAIN.get(type(info), UNSAID)
    match info:
        case inspect.Metadata():
            value = _value(info.type)
        case inspect.UnionType():
            value = _value(info.types[0])
        case inspect.LiteralType():
            value = info.values[0]
        case inspect.EnumType():
            value = next(iter(info.cls)).value
        case inspect.StructType():
            value = example(info.cls)
        case inspect.ListType() | inspect.VarTupleType():
            value = [_value(info.item_type)]
        case inspect.DictType():
            value = {}
    return value
