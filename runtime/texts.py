"""What a citizen reads: one catalogue of codes, Chinese with its English translation (zh-CN).

A code from the platform that is not here reads as a plain refusal: nothing is ever shown without words.
"""

from runtime.device_texts import DEVICES, Text
from runtime.hotline_texts import HOTLINE
from runtime.matters_texts import MATTERS
from runtime.payment_texts import PAYMENT
from runtime.session_texts import SESSION
from runtime.sharing_texts import SHARING

_REFUSED = Text("平台未受理该申请，请咨询工作人员。", "The platform did not accept the request; please ask the staff.")
_VISION_DOWN = Text("图像处理暂时不可用，请稍后再试。", "Picture processing is not available; please try later.")
_LINE_DOWN = Text("暂时无法连接政务平台，请稍后再试。", "The government platform cannot be reached; please try later.")
_BAD_CERTIFICATE = Text(
    "证明校验未通过，未予打印，请稍后再试或联系工作人员。",
    "The certificate did not pass its check and was not printed; please try later or call the staff.",
)
_FAULT = Text("系统故障，请联系工作人员。", "The terminal has a fault; please call the staff.")
_PHOTO = Text("身份证照片无法读取，请到人工窗口办理。", "The card's photo cannot be read; please go to the counter.")
_TIMEOUT = Text("操作超时，请重试。", "The operation took too long; please try again.")

_CATALOGUE: tuple[tuple[tuple[str, ...], Text], ...] = (
    *DEVICES,
    *HOTLINE,
    *MATTERS,
    *PAYMENT,
    *SHARING,
    *SESSION,
    (("face.look_at_camera",), Text("请正对摄像头。", "Please look at the camera.")),
    (("face.turn_left",), Text("请向左转头。", "Please turn your head to the left.")),
    (("face.turn_right",), Text("请向右转头。", "Please turn your head to the right.")),
    (("face.nod",), Text("请点头。", "Please nod.")),
    (("face.blink",), Text("请眨眼。", "Please blink.")),
    (("face.open_mouth",), Text("请张开嘴。", "Please open your mouth.")),
    (("face.come_closer",), Text("请靠近一些。", "Please come closer.")),
    (("face.move_back",), Text("请后退一些。", "Please move back a little.")),
    (("face.center",), Text("请将面部移到画面中央。", "Please move your face to the centre.")),
    (("face.hold_still",), Text("请保持不动。", "Please hold still.")),
    (("face.too_dark",), Text("光线过暗，请调整位置。", "It is too dark; please change your position.")),
    (("face.too_bright",), Text("光线过亮，请调整位置。", "It is too bright; please change your position.")),
    (("face.take_off_mask",), Text("请摘下口罩。", "Please take off the mask.")),
    (("face.take_off_glasses",), Text("请摘下深色眼镜。", "Please take off dark glasses.")),
    (
        ("face.changed",),
        Text("请由同一人完成核验，请重试。", "One person only, please, from beginning to end; try again."),
    ),
    (
        ("face.attack_undecided",),
        Text("未能完成活体检测，请重试。", "The live check could not be completed; please try again."),
    ),
    (("face.none",), Text("未检测到人脸，请正对摄像头。", "No face was found; please look at the camera.")),
    (("face.many",), Text("检测到多张人脸，请确保只有您本人。", "There is more than one face; please step up alone.")),
    (("face.timeout",), Text("人脸核验超时，请重试。", "The face check took too long; please try again.")),
    (
        ("face.no_match",),
        Text(
            "人脸与证件照片不符，请重试或到人工窗口办理。",
            "The face is not the card's; try again or go to the counter.",
        ),
    ),
    (
        ("face.presentation_attack",),
        Text("未通过活体检测，请到人工窗口办理。", "The live check failed; please go to the counter."),
    ),
    (("photo.undecodable", "photo.no_face", "photo.many_faces"), _PHOTO),
    (
        (
            "vision.unavailable",
            "vision.no_answer",
            "vision.not_started",
            "vision.cancelled",
            "vision.died",
            "vision.failed",
            "vision.hung",
            "vision.memory",
            "vision.stuck",
            "vision.too_large",
            "photo.decoder_missing",
            "photo.decoder_not_allowed",
            "picture.unusable",
            "model.no_threshold",
        ),
        _VISION_DOWN,
    ),
    (("document.too_dark",), Text("光线过暗，请勿遮挡材料。", "It is too dark; please do not shade the document.")),
    (("document.too_bright",), Text("光线过亮，请调整材料位置。", "It is too bright; please move the document.")),
    (("document.glare",), Text("材料反光，请调整材料位置。", "The document reflects a lamp; please move it.")),
    (
        ("document.blurred",),
        Text("图像模糊，请放平材料并勿移动。", "It is blurred; please lay it flat and do not move it."),
    ),
    (("document.no_page",), Text("未检测到材料，请平放一页材料。", "No page is seen; please lay one page flat.")),
    (
        ("document.cut_off",),
        Text("材料超出画面，请移到中间。", "The page leaves the picture; please move it to the middle."),
    ),
    (("document.full",), Text("材料页数已满。", "The document has all the pages it may have.")),
    (
        ("document.empty", "document.no_such_page", "document.not_begun"),
        Text("没有这一页材料，请先拍摄。", "There is no such page; please capture it first."),
    ),
    (
        ("document.too_large",),
        Text("材料过大，请减少页数后重试。", "The document is too large; please try again with fewer pages."),
    ),
    (
        ("document.resolution_too_low", "document.too_small", "document.unreadable"),
        Text("无法拍摄材料，请联系工作人员。", "The document cannot be captured; please call the staff."),
    ),
    (("document.timeout",), _TIMEOUT),
    (("document.begun",), Text("请平放第一页材料。", "Please lay the first page flat.")),
    (("document.page_added",), Text("本页已拍摄。", "The page is captured.")),
    (("document.finished",), Text("材料已生成。", "The document is ready.")),
    (("document.discarded",), Text("材料已删除。", "The document is removed.")),
    (("identity.verified",), Text("身份核验通过。", "Your identity is verified.")),
    (("certificate.printed",), Text("证明已打印，请取走。", "The certificate is printed; please take it.")),
    (
        ("certificate.paper_unknown",),
        Text(
            "无法确认证明是否完整打印，请检查纸张并联系工作人员。",
            "It is not known whether all was printed; check and call the staff.",
        ),
    ),
    (
        (
            "certificate.digest_mismatch",
            "certificate.seal_invalid",
            "certificate.wrong_kind",
            "pdf.damaged",
            "pdf.encrypted",
            "pdf.page_too_long",
            "pdf.too_large",
            "pdf.too_many_pages",
            "pdf.undecodable",
        ),
        _BAD_CERTIFICATE,
    ),
    (("certificate.unknown",), Text("没有这种证明。", "There is no such certificate.")),
    (
        (
            "certificate.bad_width",
            "printer.bad_job",
            "printer.unprintable_text",
            "call.pending",
            "call.unfit",
            "call.key_reused",
            "message.malformed",
            "message.too_large",
            "message.unexpected",
            "message.unknown",
            "journal.write_failed",
            "journal.disk_full",
            "journal.damaged",
        ),
        _FAULT,
    ),
    (("line.down", "link.lost", "platform.no_answer"), _LINE_DOWN),
    (
        ("citizen.unknown",),
        Text("平台未查到您的信息，请咨询工作人员。", "The platform knows nothing of you; please ask the staff."),
    ),
    (("operation.interrupted", "link.no_answer"), _TIMEOUT),
    (("paper.caption",), Text("政务服务自助终端", "Government self-service terminal")),
    (("paper.verify",), Text("扫描二维码核验本证明", "Scan to verify this certificate")),
    (("paper.closing",), Text("请核对并妥善保管", "Please check and keep it safe")),
)

_TEXTS = {code: text for codes, text in _CATALOGUE for code in codes}


def codes() -> frozenset[str]:
    """Return every code that has words of its own."""
    return frozenset(_TEXTS)


def text(code: str) -> Text:
    """Return the text of a code; a code without words of its own reads as a refusal."""
    return _TEXTS.get(code, _REFUSED)
