"""What a citizen reads of the government hotline: a part of the catalogue of `runtime.texts`."""

from runtime.device_texts import Text
from runtime.messages.hotline import Category, OrderStage

CATEGORIES: dict[Category, Text] = {
    "consultation": Text("咨询", "Question"),
    "complaint": Text("投诉", "Complaint"),
    "suggestion": Text("建议", "Suggestion"),
    "help": Text("求助", "Request for help"),
    "report": Text("举报", "Report of a wrong"),
    "police_non_emergency": Text("非紧急警务", "Police matter that is no emergency"),
}
"""What each category is called."""
STAGES: dict[OrderStage, Text] = {
    "registered": Text("已登记", "registered"),
    "transcribed": Text("已转写", "transcribed"),
    "reviewed": Text("已初审", "reviewed"),
    "routed": Text("已转派", "routed to a department"),
    "assigned": Text("已签收", "assigned"),
    "handling": Text("办理中", "being handled"),
    "verified": Text("已核实", "verified"),
    "answered": Text("已答复", "answered"),
    "followed_up": Text("已回访", "followed up"),
    "archived": Text("已归档", "archived"),
}
"""What each stage of a request's life is called."""

_EMERGENCY = Text(
    "紧急情况请立即拨打110、119或120，请勿在此登记。",
    "In an emergency dial 110 (police), 119 (fire) or 120 (ambulance) at once; do not register it here.",
)
_NOT_REGISTERED = Text("诉求未登记成功，请重新登记。", "Nothing was registered; please register the request again.")
_NOT_TAKEN = Text("诉求未被受理，请咨询工作人员。", "The request was not taken; please ask the staff.")

HOTLINE: tuple[tuple[tuple[str, ...], Text], ...] = (
    (("hotline.emergency",), _EMERGENCY),
    (("hotline.emergency_police",), Text("请立即拨打110报警。", "Dial 110 (police) at once.")),
    (("hotline.emergency_fire",), Text("请立即撤离并拨打119。", "Leave the place and dial 119 (fire) at once.")),
    (("hotline.emergency_medical",), Text("请立即拨打120急救电话。", "Dial 120 (ambulance) at once.")),
    (("hotline.attached",), Text("附件已收取。", "The attachment is taken.")),
    (("hotline.no_document",), Text("请先扫描附件。", "Please scan the attachment first.")),
    (("hotline.no_attachment",), Text("没有这份附件，请先扫描。", "There is no such attachment; scan it first.")),
    (
        ("hotline.scans_too_large",),
        Text(
            "附件过大，请减少页数或改用黑白扫描。",
            "The attachments are too large; scan fewer pages or black and white.",
        ),
    ),
    (("hotline.text_missing",), Text("请填写诉求内容。", "Please say what it is about.")),
    (("hotline.text_too_long",), Text("诉求内容请勿超过2000字。", "Please use no more than 2,000 characters.")),
    (("hotline.rating_too_long",), Text("评价内容请勿超过500字。", "Please use no more than 500 characters.")),
    (("hotline.unknown_district",), Text("请从列表中选择区域。", "Please choose a district of the list.")),
    (
        ("hotline.anonymous_telephone",),
        Text(
            "匿名诉求不留电话，请删去电话或改为实名。",
            "An anonymous request has no telephone; remove it or give your name.",
        ),
    ),
    (("hotline.bad_telephone",), Text("电话号码有误，请核对。", "The telephone number is not right; please check it.")),
    (
        ("hotline.begun",),
        Text("请记下回执号，并填写诉求。", "Please note the receipt number and say what it is about."),
    ),
    (("hotline.not_begun",), Text("请先开始登记。", "Please begin the request first.")),
    (("hotline.registered",), Text("诉求已登记。", "The request is registered.")),
    (
        ("hotline.already",),
        Text(
            "此前的诉求已登记，修改的内容请另行登记。", "The request before is registered; register what changed anew."
        ),
    ),
    (
        ("hotline.unsure",),
        Text(
            "暂时无法确认是否登记，请重试或凭回执号查询。",
            "It is not known whether it was registered; try again or ask.",
        ),
    ),
    (("hotline.not_registered",), _NOT_REGISTERED),
    (("hotline.refused", "hotline.invalid", "hotline.duplicate"), _NOT_TAKEN),
    (("hotline.found",), Text("查询完成。", "Here is how it stands.")),
    (
        ("hotline.needs_identity",),
        Text("核验身份后可查看办理内容和答复。", "Have your identity verified to see what is done and the reply."),
    ),
    (
        ("hotline.other_receipt",),
        Text("这不是热线诉求的回执号。", "This is not the receipt number of a hotline request."),
    ),
    (("hotline.rated",), Text("感谢您的评价。", "Thank you for the rating.")),
    (("hotline.reopened",), Text("您的诉求已退回重新办理。", "Your request is open again and will be handled anew.")),
    (("hotline.not_rateable",), Text("该诉求目前不能评价。", "This request cannot be rated now.")),
    (("hotline.not_yours",), Text("只能评价本人登记的诉求。", "Only your own request can be rated.")),
)
