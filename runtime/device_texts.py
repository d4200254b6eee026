"""What a citizen reads of peripherals and cameras: a part of the catalogue of `runtime.texts`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """One text in both languages."""

    zh: str
    en: str


_READ_AGAIN = Text("身份证读取失败，请重新放置身份证。", "The ID card could not be read; please lay it down again.")
_READER_DOWN = Text("身份证阅读器暂时不可用，请稍后再试。", "The ID-card reader is not available; please try later.")
_CAMERA_DOWN = Text("摄像头暂时不可用，请稍后再试。", "The camera is not available; please try later.")
_FINGERPRINT_DOWN = Text("指纹仪暂时不可用，请稍后再试。", "The fingerprint sensor is not available; please try later.")
_FINGER_AGAIN = Text("指纹采集失败，请重新按压手指。", "The finger could not be read; please lay it down again.")
_CARD_READER_DOWN = Text("读卡机暂时不可用，请稍后再试。", "The card reader is not available; please try later.")
_CARD_AGAIN = Text("银行卡读取失败，请重新插卡。", "The bank card could not be read; please insert it again.")
_OTHER_CARD = Text("不支持该银行卡，请更换银行卡。", "This bank card is not served; please use another one.")
_PIN_PAD_DOWN = Text("密码键盘暂时不可用，请稍后再试。", "The PIN pad is not available; please try later.")
_UPS_FAULT = Text("本机供电异常，请联系工作人员。", "The power supply has a fault; please call the staff.")
_CABINET_FAULT = Text("本机运行环境异常，请联系工作人员。", "The cabinet has a fault; please call the staff.")
_PRINTER_DOWN = Text("打印机暂时不可用，请联系工作人员。", "The printer is not available; please call the staff.")

DEVICES: tuple[tuple[tuple[str, ...], Text], ...] = (
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
    (("camera.covered",), Text("摄像头被遮挡，请勿遮挡。", "The camera is covered; please leave it free.")),
    (
        (
            "fingerprint.bad_setting",
            "fingerprint.busy",
            "fingerprint.format_mismatch",
            "fingerprint.garbled",
            "fingerprint.hardware_error",
            "fingerprint.no_answer",
            "fingerprint.not_verified",
            "fingerprint.offline",
            "fingerprint.refused",
            "fingerprint.swapped",
            "fingerprint.unknown_format",
            "fingerprint.wrong_address",
            "fingerprint.wrong_device",
            "fingerprint.wrong_password",
        ),
        _FINGERPRINT_DOWN,
    ),
    (("fingerprint.few_features", "fingerprint.not_imaged"), _FINGER_AGAIN),
    (("fingerprint.no_finger",), Text("未检测到手指，请按压手指。", "No finger was found; please lay one down.")),
    (
        ("fingerprint.not_lifted",),
        Text("请先抬起手指，再重新按压。", "Please lift the finger and lay it down again."),
    ),
    (
        ("fingerprint.dirty",),
        Text("请擦净手指和指纹仪后重试。", "Please wipe finger and sensor and try again."),
    ),
    (
        (
            "cardreader.busy",
            "cardreader.chip_off",
            "cardreader.failed",
            "cardreader.garbled",
            "cardreader.no_answer",
            "cardreader.not_now",
            "cardreader.offline",
            "cardreader.power",
            "cardreader.refused",
            "cardreader.swapped",
            "cardreader.unsupported",
            "cardreader.wrong_device",
        ),
        _CARD_READER_DOWN,
    ),
    (
        (
            "cardreader.bad_card",
            "cardreader.card_removed",
            "cardreader.chip_failed",
            "cardreader.chip_mute",
            "cardreader.chip_slow",
        ),
        _CARD_AGAIN,
    ),
    (
        (
            "cardreader.bad_number",
            "cardreader.card_blocked",
            "cardreader.invalid_card",
            "cardreader.no_application",
        ),
        _OTHER_CARD,
    ),
    (("cardreader.no_card",), Text("未检测到银行卡，请插卡。", "No bank card was found; please insert one.")),
    (("cardreader.not_taken",), Text("请取走您的银行卡。", "Please take your bank card.")),
    (
        ("cardreader.jammed",),
        Text("银行卡未能退出，请联系工作人员。", "The bank card does not come out; please call the staff."),
    ),
    (
        (
            "pinpad.bad_answer",
            "pinpad.bad_key",
            "pinpad.battery_low",
            "pinpad.busy",
            "pinpad.clear_digit",
            "pinpad.failed",
            "pinpad.garbled",
            "pinpad.key_missing",
            "pinpad.no_answer",
            "pinpad.no_master_key",
            "pinpad.not_authorised",
            "pinpad.offline",
            "pinpad.refused",
            "pinpad.swapped",
            "pinpad.unknown_model",
            "pinpad.wrong_device",
        ),
        _PIN_PAD_DOWN,
    ),
    (
        ("pinpad.tampered",),
        Text(
            "密码键盘异常，请勿输入密码，并联系工作人员。",
            "The PIN pad has been tampered with; enter no PIN and call the staff.",
        ),
    ),
    (("pinpad.no_pin",), Text("未输入密码，请重新输入。", "No PIN was entered; please enter it again.")),
    (("pinpad.timeout",), Text("密码输入超时，请重试。", "The PIN took too long; please try again.")),
    (("pinpad.cancelled",), Text("您已取消密码输入。", "You cancelled the entry of the PIN.")),
    (
        (
            "ups.access_denied",
            "ups.bypass",
            "ups.delay_unsupported",
            "ups.failed",
            "ups.garbled",
            "ups.no_answer",
            "ups.offline",
            "ups.output_off",
            "ups.overload",
            "ups.refused",
            "ups.replace_battery",
            "ups.stale",
            "ups.swapped",
            "ups.unknown_ups",
            "ups.unsupported",
            "ups.wrong_device",
        ),
        _UPS_FAULT,
    ),
    (
        (
            "environment.bad_setting",
            "environment.garbled",
            "environment.humidity_out_of_range",
            "environment.no_answer",
            "environment.offline",
            "environment.refused",
            "environment.sensor_failed",
            "environment.sensor_missing",
            "environment.stale",
            "environment.swapped",
            "environment.wrong_device",
        ),
        _CABINET_FAULT,
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
            "printer.garbled",
            "printer.hardware_error",
            "printer.head_hot",
            "printer.presenter_jam",
            "printer.swapped",
            "printer.wrong_device",
        ),
        _PRINTER_DOWN,
    ),
)
