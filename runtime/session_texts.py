"""What a citizen reads of the session, of consent and identity, and of certificates: a part of `runtime.texts`."""

from runtime.device_texts import Text

_VERIFY_AGAIN = Text("身份核验已过期，请重新核验。", "The verification is too old; please verify your identity again.")
_ENDED = Text("本次办理已结束，个人信息已清除。", "This session has ended and your data are wiped.")
_BUSY = Text("本机正在使用，请稍候。", "The terminal is in use; please wait.")
_VERIFY_FIRST = Text("请先核验身份。", "Please verify your identity first.")
_CONSENT_FIRST = Text("请先阅读并同意个人信息处理说明。", "Please read the notice and agree to it first.")
_UNCONFIRMED = Text(
    "平台未能确认您的身份，请重新核验。", "The platform did not confirm your identity; please try again."
)
_STAFF = Text("工作人员口令无效，请重新输入。", "The staff's code is not valid; please enter it again.")

SESSION: tuple[tuple[tuple[str, ...], Text], ...] = (
    (("session.busy",), _BUSY),
    (("session.unknown", "session.ended"), _ENDED),
    (("session.not_verified",), _VERIFY_FIRST),
    (("session.citizen_changed",), Text("请重新选择要办理的业务。", "Please choose your service again.")),
    (("session.not_clear",), Text("请取走遗留的物品。", "Please take what was left behind.")),
    (("session.closed", "session.client_lost"), _ENDED),
    (("session.idle",), Text("长时间未操作，办理已结束。", "Nothing was done for a long time; the session has ended.")),
    (("session.too_long",), Text("办理时间已到，请重新开始。", "The time is over; please begin again.")),
    (("session.shutdown",), Text("本机即将停止服务，办理已结束。", "The terminal is stopping; the session has ended.")),
    (
        ("session.tamper",),
        Text(
            "本机检测到异常，已停止办理，请联系工作人员。",
            "Something is wrong with the terminal; please call the staff.",
        ),
    ),
    (
        ("session.locked",),
        Text(
            "本机已暂停服务，请使用其他终端或到人工窗口办理。",
            "This terminal is out of service; please use another one or go to the counter.",
        ),
    ),
    (
        ("session.power",),
        Text("市电中断，暂停办理，请取回您的物品。", "The mains failed; service pauses. Please take your belongings."),
    ),
    (
        ("session.power_soon",),
        Text(
            "市电中断，请尽快完成办理并取回您的物品。",
            "The mains failed; please finish soon and take your belongings.",
        ),
    ),
    (
        ("session.idle_soon",),
        Text("长时间未操作，即将结束办理，请点击继续。", "The session is about to end; touch to go on."),
    ),
    (
        ("session.too_long_soon",),
        Text("办理时间即将用完，请尽快完成。", "The time is nearly over; please finish soon."),
    ),
    (("idcard.left",), Text("请取走您的身份证。", "Please take your ID card.")),
    (("cardreader.left",), Text("请取走您的银行卡。", "Please take your bank card.")),
    (("printer.left",), Text("请取走打印的纸张。", "Please take the printed paper.")),
    (("fingerprint.left",), Text("请抬起手指。", "Please lift your finger.")),
    (("consent.missing",), _CONSENT_FIRST),
    (("consent.given",), Text("已记录您的同意。", "Your consent is recorded.")),
    (
        ("consent.declined",),
        Text("已记录您的选择，可改用其他核验方式。", "Your choice is recorded; please use another way."),
    ),
    (("assertion.expired",), _VERIFY_AGAIN),
    (("assertion.invalid", "assertion.bad_evidence"), _UNCONFIRMED),
    (("staff.refused",), _STAFF),
    (
        ("staff.locked",),
        Text("工作人员账号已锁定，请稍后再试。", "The staff's account is locked; please try later."),
    ),
    (
        ("idcard.no_fingerprint",),
        Text("身份证中没有指纹信息，请选择其他方式。", "The ID card has no fingerprints; please use another way."),
    ),
    (
        ("fingerprint.unfit",),
        Text("本机不支持指纹核验，请选择其他方式。", "Fingerprints cannot be compared here; please use another way."),
    ),
    (
        ("fingerprint.no_match",),
        Text("指纹比对未通过，请重试或联系工作人员。", "The finger is not the card's; try again or call the staff."),
    ),
    (("finger.any",), Text("请按压在身份证中登记的手指。", "Please use a finger that your card knows.")),
    (("finger.right_thumb",), Text("请按压右手拇指。", "Please use your right thumb.")),
    (("finger.right_index",), Text("请按压右手食指。", "Please use your right index finger.")),
    (("finger.right_middle",), Text("请按压右手中指。", "Please use your right middle finger.")),
    (("finger.right_ring",), Text("请按压右手无名指。", "Please use your right ring finger.")),
    (("finger.right_little",), Text("请按压右手小指。", "Please use your right little finger.")),
    (("finger.left_thumb",), Text("请按压左手拇指。", "Please use your left thumb.")),
    (("finger.left_index",), Text("请按压左手食指。", "Please use your left index finger.")),
    (("finger.left_middle",), Text("请按压左手中指。", "Please use your left middle finger.")),
    (("finger.left_ring",), Text("请按压左手无名指。", "Please use your left ring finger.")),
    (("finger.left_little",), Text("请按压左手小指。", "Please use your left little finger.")),
    (("certificate.reprinted",), Text("证明已补打，请取走。", "The certificate is printed again; please take it.")),
    (
        ("certificate.receipt_used",),
        Text("凭证号已被使用，请重新申请。", "The receipt number was used; please ask anew."),
    ),
    (
        ("certificate.unsure",),
        Text(
            "暂时无法确认证明是否已出具，请重试或凭凭证号补打。",
            "It is not known whether it was issued; try again, or reprint it by its receipt number.",
        ),
    ),
    (("certificate.not_issued",), Text("证明未出具，请重新申请。", "It was not issued; please ask for it again.")),
    (
        ("certificate.answer_lost",),
        Text(
            "平台的答复未收到，已出具的证明可凭凭证号补打。",
            "The platform's answer was lost; what was issued can be reprinted by its receipt number.",
        ),
    ),
    (
        ("certificate.no_more_copies",),
        Text("补打次数已用完，请重新申请。", "It was reprinted as often as it can be; please ask for a new one."),
    ),
    (
        ("audit.write_failed",),
        Text("系统故障，请联系工作人员。", "The terminal has a fault; please call the staff."),
    ),
    (("paper.receipt",), Text("凭证号", "Receipt number")),
    (("paper.reprint",), Text("补打件（第{copy}次）", "Reprint no. {copy}")),
)
