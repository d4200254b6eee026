"""What a citizen reads: one catalogue of codes, Chinese with its English translation (zh-CN).

A code from the platform that is not here reads as a plain refusal: nothing is ever shown without words.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """One text in both languages."""

    zh: str
    en: str


_READ_AGAIN = Text("身份证读取失败，请重新放置身份证。", "The ID card could not be read; please lay it down again.")
_READER_DOWN = Text("身份证阅读器暂时不可用，请稍后再试。", "The ID-card reader is not available; please try later.")
_VISION_DOWN = Text("图像处理暂时不可用，请稍后再试。", "Picture processing is not available; please try later.")
_CAMERA_DOWN = Text("摄像头暂时不可用，请稍后再试。", "The camera is not available; please try later.")
_PRINTER_DOWN = Text("打印机暂时不可用，请联系工作人员。", "The printer is not available; please call the staff.")
_LINE_DOWN = Text("暂时无法连接政务平台，请稍后再试。", "The government platform cannot be reached; please try later.")
_BAD_CERTIFICATE = Text(
    "证明校验未通过，未予打印，请稍后再试或联系工作人员。",
    "The certificate did not pass its check and was not printed; please try later or call the staff.",
)
_FAULT = Text("系统故障，请联系工作人员。", "The terminal has a fault; please call the staff.")
_PHOTO = Text("身份证照片无法读取，请到人工窗口办理。", "The card's photo cannot be read; please go to the counter.")
_REFUSED = Text("平台未受理该申请，请咨询工作人员。", "The platform did not accept the request; please ask the staff.")
_TIMEOUT = Text("操作超时，请重试。", "The operation took too long; please try again.")

_CATALOGUE: tuple[tuple[tuple[str, ...], Text], ...] = (
    (
        # A card that was read is not found again before it was lifted, and the reader cannot tell that it lies there.
        ("idcard.place_card",),
        Text(
            "请将身份证放在读卡区；如已放置，请拿起后重新放置。",
            "Please lay your ID card on the reader; if it lies there already, lift it and lay it down again.",
        ),
    ),
    (
        ("idcard.no_card",),
        Text(
            "未检测到身份证，请重试；如已放置，请拿起后重新放置。",
            "No ID card was found; please try again. If it lies there already, lift it and lay it down again.",
        ),
    ),
    (
        ("idcard.card_removed",),
        Text("身份证移开过早，请重新放置。", "The card was taken away too soon; lay it down again."),
    ),
    (
        ("idcard.read_failed", "idcard.no_answer", "idcard.bad_record", "idcard.garbled", "idcard.card_rejected"),
        _READ_AGAIN,
    ),
    (("idcard.wrong_card",), Text("请使用居民身份证。", "Please use a resident identity card.")),
    (
        ("idcard.bad_check_digit",),
        Text("身份证信息校验未通过，请到人工窗口办理。", "The card contradicts itself; please go to the counter."),
    ),
    (
        ("idcard.variant_unsupported",),
        Text("本机暂不支持该类证件，请到人工窗口办理。", "This kind of card is not served here; go to the counter."),
    ),
    (
        (
            "idcard.offline",
            "idcard.busy",
            "idcard.refused",
            "idcard.sam_failed",
            "idcard.sam_not_authorised",
            "idcard.swapped",
            "idcard.wrong_device",
        ),
        _READER_DOWN,
    ),
    (("face.look_at_camera",), Text("请正对摄像头。", "Please look at the camera.")),
    (("face.come_closer",), Text("请靠近一些。", "Please come closer.")),
    (("face.move_back",), Text("请后退一些。", "Please move back a little.")),
    (("face.center",), Text("请将面部移到画面中央。", "Please move your face to the centre.")),
    (("face.hold_still",), Text("请保持不动。", "Please hold still.")),
    (("face.too_dark",), Text("光线过暗，请调整位置。", "It is too dark; please change your position.")),
    (("face.too_bright",), Text("光线过亮，请调整位置。", "It is too bright; please change your position.")),
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
            "vision.stuck",
            "vision.too_large",
            "photo.decoder_missing",
            "photo.decoder_not_allowed",
        ),
        _VISION_DOWN,
    ),
    (
        (
            "camera.lost",
            "camera.frozen",
            "camera.missing",
            "camera.not_allowed",
            "camera.resolution_too_low",
            "camera.stuck",
            "camera.unusable",
        ),
        _CAMERA_DOWN,
    ),
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
            "journal.damaged",
        ),
        _FAULT,
    ),
    (("line.down", "link.lost", "platform.no_answer"), _LINE_DOWN),
    (
        ("citizen.unknown",),
        Text("平台未查到您的信息，请咨询工作人员。", "The platform knows nothing of you; please ask the staff."),
    ),
    (
        ("printer.paper_out",),
        Text("打印机缺纸，请联系工作人员。", "The printer is out of paper; please call the staff."),
    ),
    (
        ("printer.cover_open",),
        Text("打印机盖未关闭，请联系工作人员。", "The printer's cover is open; please call the staff."),
    ),
    (
        (
            "printer.offline",
            "printer.lost",
            "printer.no_answer",
            "printer.not_ready",
            "printer.not_printed",
            "printer.bad_answer",
            "printer.cutter_jam",
            "printer.hardware_error",
            "printer.head_hot",
            "printer.swapped",
            "printer.wrong_device",
        ),
        _PRINTER_DOWN,
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
