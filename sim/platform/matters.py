"""The content of the reference platform's catalogue of matters: what a citizen can apply for at a terminal (T17).

Version 1 and, for the next quarter, version 2: one matter is withdrawn, one costs another fee, one has another form,
one is new. Titles are those of real matters; the departments and fees are made up.
"""

from typing import Any

import msgspec

from runtime.messages.matters import Catalogue, Material, Matter

_CAMERA = ("document_camera",)
_PAID = ("document_camera", "cardreader", "pinpad")

_ID_CARD = Material("id_card", "居民身份证", "Resident identity card", pages=1)
_PHOTO = Material("photo", "近期免冠照片", "Recent photograph", pages=1)
_RESIDENCE = Material("residence_proof", "居住证明", "Proof of residence", pages=4)
_LEASE = Material("lease", "房屋租赁合同", "Tenancy agreement", pages=12)
_HOUSEHOLD = Material("household_book", "户口簿", "Household register", pages=6)


def _text(title: str, longest: int, **more: Any) -> dict[str, Any]:
    return {"type": "string", "title": title, "minLength": 1, "maxLength": longest} | more


def _choice(title: str, *choices: str) -> dict[str, Any]:
    return {"type": "string", "title": title, "enum": list(choices)}


def _number(title: str, least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "title": title, "minimum": least, "maximum": most}


def _date(title: str) -> dict[str, Any]:
    return {"type": "string", "title": title, "format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"}


_TELEPHONE = _text("联系电话", 11, pattern=r"^1[3-9]\d{9}$")
_ADDRESS = _text("现住址", 120)
_ACCOUNT = _text("收款银行账号", 19, pattern=r"^\d{16,19}$")


def _form(required: tuple[str, ...], **fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


_FIRST = (
    Matter(
        "residence_permit_renewal",
        1,
        "居住证签注",
        "Renewal of a residence permit",
        "样本市公安局",
        _form(
            ("permit_number", "address", "telephone", "reason"),
            permit_number=_text("居住证号码", 18, pattern=r"^\d{17}[\dX]$"),
            address=_ADDRESS,
            telephone=_TELEPHONE,
            reason=_choice("居住事由", "务工", "经商", "就学", "投靠亲属", "其他"),
        ),
        (_ID_CARD, _RESIDENCE),
        devices=_CAMERA,
    ),
    Matter(
        "social_insurance_registration",
        1,
        "城乡居民社会保险参保登记",
        "Enrolment in residents' social insurance",
        "样本市人力资源和社会保障局",
        _form(
            ("category", "level", "telephone"),
            category=_choice("险种", "基本养老保险", "基本医疗保险"),
            level=_number("缴费档次", 1, 9),
            telephone=_TELEPHONE,
        ),
        (_ID_CARD, _HOUSEHOLD),
        devices=_CAMERA,
    ),
    Matter(
        "senior_card",
        1,
        "老年人优待证办理",
        "Card for senior citizens",
        "样本市民政局",
        _form(
            ("telephone", "collect"),
            telephone=_TELEPHONE,
            collect=_choice("领取方式", "窗口领取", "邮寄"),
            post_address=_text("邮寄地址", 120),
        )
        | {
            "if": {"properties": {"collect": {"const": "邮寄"}}, "required": ["collect"]},
            "then": {"required": ["post_address"]},
        },
        (_ID_CARD, _PHOTO),
        fee_fen=1000,
        devices=_CAMERA,
    ),
    Matter(
        "sole_trader_registration",
        1,
        "个体工商户设立登记",
        "Registration of a sole trader",
        "样本市市场监督管理局",
        _form(
            ("name", "scope", "place", "telephone", "staff"),
            name=_text("字号名称", 40),
            scope={
                "type": "array",
                "title": "经营范围",
                "minItems": 1,
                "maxItems": 8,
                "uniqueItems": True,
                "items": {
                    "enum": ["食品销售", "餐饮服务", "服装零售", "日用百货", "理发服务", "维修服务", "软件开发", "其他"]
                },
            },
            place=_text("经营场所", 120),
            telephone=_TELEPHONE,
            staff=_number("从业人数", 1, 99),
        ),
        (_ID_CARD, _LEASE, Material("place_photo", "经营场所照片", "Photograph of the premises", 4, required=False)),
        devices=_CAMERA,
    ),
    Matter(
        "housing_fund_withdrawal",
        1,
        "住房公积金提取",
        "Withdrawal from the housing fund",
        "样本市住房公积金管理中心",
        _form(
            ("account", "reason", "amount_fen", "bank_account"),
            account=_text("公积金账号", 12, pattern=r"^\d{12}$"),
            reason=_choice("提取原因", "租房", "购房", "退休", "离职"),
            amount_fen=_number("提取金额（分）", 1, 100_000_000),
            bank_account=_ACCOUNT,
        ),
        (_ID_CARD, Material("reason_proof", "提取事由证明", "Proof of the reason", 20)),
        devices=_CAMERA,
    ),
    Matter(
        "property_search",
        1,
        "不动产登记资料查询",
        "Search of the land register",
        "样本市不动产登记中心",
        _form(
            ("purpose", "certificate_number"),
            purpose=_choice("查询用途", "诉讼", "交易", "贷款", "其他"),
            certificate_number=_text("不动产权证号", 30),
        ),
        (_ID_CARD,),
        fee_fen=8000,
        devices=_PAID,
    ),
    Matter(
        "business_licence_copy",
        1,
        "营业执照副本补领",
        "Replacement copy of a business licence",
        "样本市市场监督管理局",
        _form(
            ("credit_code", "reason"),
            credit_code=_text("统一社会信用代码", 18, pattern=r"^[0-9A-HJ-NPQRTUWXY]{18}$"),
            reason=_choice("补领原因", "遗失", "损毁"),
        ),
        (_ID_CARD, Material("statement", "遗失声明", "Statement of loss", 2)),
        fee_fen=500,
        devices=_CAMERA,
    ),
    Matter(
        "birth_allowance",
        1,
        "生育津贴申领",
        "Maternity allowance",
        "样本市医疗保障局",
        _form(
            ("birth_date", "children", "bank_account", "hospital"),
            birth_date=_date("分娩日期"),
            children=_number("子女数", 1, 6),
            bank_account=_ACCOUNT,
            hospital=_text("分娩医院", 60),
        ),
        (_ID_CARD, Material("birth_certificate", "出生医学证明", "Medical certificate of birth", 2)),
        devices=_CAMERA,
    ),
    Matter(
        "medical_reimbursement",
        1,
        "医疗费用手工报销",
        "Reimbursement of medical costs",
        "样本市医疗保障局",
        _form(
            ("hospital", "admitted", "discharged", "amount_fen", "bank_account"),
            hospital=_text("就诊医院", 60),
            admitted=_date("入院日期"),
            discharged=_date("出院日期"),
            amount_fen=_number("费用总额（分）", 1, 1_000_000_000),
            bank_account=_ACCOUNT,
        ),
        (_ID_CARD, Material("invoices", "收费票据", "Invoices", 20), Material("summary", "出院小结", "Summary", 6)),
        devices=_CAMERA,
    ),
    Matter(
        "subsistence_allowance",
        1,
        "最低生活保障申请",
        "Subsistence allowance",
        "样本市民政局",
        _form(
            ("members", "income_fen", "address", "telephone", "hardship"),
            members=_number("家庭人口", 1, 20),
            income_fen=_number("家庭月收入（分）", 0, 100_000_000),
            address=_ADDRESS,
            telephone=_TELEPHONE,
            hardship=_text("困难情况", 500),
        ),
        (_HOUSEHOLD, Material("income_proof", "收入证明", "Proof of income", 8)),
        devices=_CAMERA,
    ),
    Matter(
        "school_enrolment",
        1,
        "义务教育入学报名",
        "Enrolment in compulsory schooling",
        "样本市教育局",
        _form(
            ("child_birth", "grade", "address", "telephone"),
            child_birth=_date("学生出生日期"),
            grade=_choice("入学年级", "小学一年级", "初中一年级"),
            address=_ADDRESS,
            telephone=_TELEPHONE,
        ),
        (_HOUSEHOLD, Material("vaccination", "预防接种证", "Vaccination record", 6), _LEASE),
        devices=_CAMERA,
    ),
    Matter(
        "disability_certificate",
        1,
        "残疾人证换领",
        "Renewal of a disability certificate",
        "样本市残疾人联合会",
        _form(
            ("certificate_number", "category", "telephone"),
            certificate_number=_text("残疾人证号", 20, pattern=r"^[0-9X]{18,20}$"),
            category=_choice("残疾类别", "视力", "听力", "言语", "肢体", "智力", "精神", "多重"),
            telephone=_TELEPHONE,
        ),
        (_ID_CARD, _PHOTO),
        devices=_CAMERA,
    ),
    Matter(
        "unemployment_registration",
        1,
        "失业登记",
        "Registration as unemployed",
        "样本市人力资源和社会保障局",
        _form(
            ("left_work", "reason", "skills", "telephone"),
            left_work=_date("离职日期"),
            reason=_choice("失业原因", "合同到期", "单位裁员", "个人辞职", "毕业未就业"),
            skills=_text("技能特长", 200),
            telephone=_TELEPHONE,
        ),
        (),
        devices=(),
    ),
    Matter(
        "parking_permit",
        1,
        "居民停车证办理",
        "Resident's parking permit",
        "样本市公安局交通管理局",
        _form(("plate", "address"), plate=_text("车牌号", 8, pattern=r"^[一-龥][A-Z][A-Z0-9]{5,6}$"), address=_ADDRESS),
        (Material("vehicle_licence", "机动车行驶证", "Vehicle licence", 2),),
        devices=_CAMERA,
    ),
)

EXAMINED_SECONDS = {
    "sole_trader_registration": 2 * 86_400,
    "housing_fund_withdrawal": 86_400,
    "subsistence_allowance": 5 * 86_400,
    "medical_reimbursement": 3 * 86_400,
    "school_enrolment": 86_400,
    "talent_subsidy": 86_400,
}
"""The matters that stay pending, and how long; the others are accepted at once."""

_WITHDRAWN = "parking_permit"
_NEW_FEE = {"property_search": 6000}
_NEW_FORM = "unemployment_registration"
_ADDED = Matter(
    "talent_subsidy",
    1,
    "青年人才租房补贴申领",
    "Rent subsidy for young professionals",
    "样本市人力资源和社会保障局",
    _form(
        ("degree", "graduated", "employer", "bank_account"),
        degree=_choice("学历", "本科", "硕士", "博士"),
        graduated=_date("毕业日期"),
        employer=_text("工作单位", 60),
        bank_account=_ACCOUNT,
    ),
    (_ID_CARD, _LEASE, Material("diploma", "学历证书", "Diploma", 2)),
    devices=_CAMERA,
)


def catalogue(version: int, in_force_unix: int) -> Catalogue:
    """Return a version of the catalogue; every one after the first has the next quarter's matters."""
    matters = _FIRST if version == 1 else (*(_next_quarter(one) for one in _FIRST if one.id != _WITHDRAWN), _ADDED)
    return Catalogue(version, in_force_unix, matters)


def _next_quarter(matter: Matter) -> Matter:
    if matter.id in _NEW_FEE:
        return msgspec.structs.replace(matter, version=2, fee_fen=_NEW_FEE[matter.id])
    if matter.id == _NEW_FORM:
        fields = matter.form["properties"] | {"education": _choice("学历", "初中及以下", "高中", "大专及以上")}
        form = matter.form | {"properties": fields, "required": [*matter.form["required"], "education"]}
        return msgspec.structs.replace(matter, version=2, form=form)
    return matter
