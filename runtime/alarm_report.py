"""The written report of an alarm, drafted for a person to complete and send (T23). In Chinese, for the authority."""

from datetime import UTC, datetime, timedelta, timezone

from runtime.alarms import LIMIT_SECONDS, AlarmEntry

CHINA_TIME = timezone(timedelta(hours=8), "UTC+8")
BLANK = "________________"

_KNOWN: dict[str, str] = {
    "pinpad.tampered": "密码键盘报告其防拆机构已触发。",
    "pinpad.clear_digit": "密码键盘在加密输入过程中传出了明文按键。",
    "egress.connect": "终端程序试图连接未授权的网络地址。",
    "egress.lookup": "终端程序试图查询未授权的域名。",
    "egress.bind": "终端程序试图开放网络监听端口。",
    "hardware.mismatch": "终端程序在非登记的主机上启动，存储卡或硬盘可能被移动或复制。",
    "audit.chain_broken": "审计日志的校验链不连续，日志可能被改动。",
    "audit.truncated": "审计日志缺少此前已写入的记录，日志可能被删减。",
    "audit.over_budget": "审计日志超出容量，而其中记录尚未满保存期限，未删除任何记录。",
    "staff.abnormal": "同一运维账号短时间内多次被拒绝操作。",
    "staff.bad_signature": "本机保存的运维授权的平台签名校验未通过，内容可能被改动。",
    "staff.too_long": "本机保存的运维授权超出允许的最长期限。",
    "environment.door_open": "在未公告维护的时段，机柜门被打开。",
    "usb.storage": "终端上插入了未登记的 USB 存储设备。",
    "usb.keyboard": "终端上插入了未登记的 USB 键盘类设备。",
    "usb.unknown": "终端上插入了未登记的 USB 设备。",
    "network.second_route": "终端出现第二条默认路由，可能同时接入了另一个网络。",
    "network.unknown_uplink": "终端经未登记的网络接口接入网络。",
    "journal.damaged": "本机日志数据库的校验未通过，文件可能损坏或被改动。",
    "journal.went_back": "本机日志数据库回到了较早的版本，可能被旧镜像替换。",
    "catalogue.bad_signature": "事项目录的平台签名校验未通过，内容可能被改动。",
    "catalogue.digest_mismatch": "事项目录与平台公告的摘要不一致。",
    "model.damaged": "人脸模型文件的摘要与清单不一致，文件可能损坏或被改动。",
    "swapped": "该设备的身份标识与此前登记的不一致，可能已被更换。",
    "wrong_device": "该设备的身份标识与配置的不一致，可能已被更换。",
}
"""What is known of an alarm, by its code or the end of its code."""

_ENDED = "终端已结束当时的办理；配置为锁定的，须由运维人员查明原因并解除后方可恢复服务。"
_DONE: dict[str, str] = {
    "pinpad": "终端已停用密码键盘，不再接受密码输入。",
    "egress": "终端已拒绝该次网络操作，并结束当时的办理。",
    "door_open": _ENDED,
    "usb": _ENDED,
    "network": _ENDED,
    "journal": _ENDED,
    "model": _ENDED,
    "catalogue": "终端未启用该目录。",
    "hardware": "终端程序已拒绝启动，未连接平台。",
    "swapped": "终端已停用该设备。",
    "wrong_device": "终端已停用该设备。",
}
"""What the terminal did by itself, by the beginning or the end of the code."""

_REPORT = """\
安全事件报告（草稿）{rig}

本稿由终端自动生成，不含任何个人信息。请核对、补全空白处后，于 {deadline} 前报送（发现后 30 分钟内）。

一、事件
  事件编号：{alarm}
  事件代码：{code}
  涉及对象：{subject}
  终端编号：{terminal}
  发现时间：{raised}（北京时间）
  重复次数：{repeats}

二、已知情况
  {known}
  以上由终端自动判断；终端不判断是否发生数据泄露。

三、已采取的措施
  {done}
  终端已将报警写入本机日志。{receipt}

四、由报告人填写
  是否发生数据泄露：{blank}
  涉及的数据种类和数量：{blank}
  可能的影响：{blank}
  已采取和拟采取的措施：{blank}
  报告单位：{blank}
  报告人及电话：{blank}
  接收单位：{blank}
  报送时间：{blank}

（草稿生成时间：{written}，北京时间）
"""


def draft(alarm: AlarmEntry, *, terminal: str, rig: bool, now: float) -> str:
    """Return the draft for an alarm of `terminal`: plain text, China time, blanks where only a person knows.

    `now` is UTC seconds; `rig` marks the report of a terminal that serves nobody.
    """
    kind, _, what = alarm.code.partition(".")
    if alarm.receipted:
        receipt = f"平台在 {alarm.seconds:.0f} 秒后确认收到。"
    else:
        receipt = f"截至本稿已等待 {alarm.seconds:.0f} 秒，平台尚未确认收到。"
    return _REPORT.format(
        rig="【测试终端】" if rig else "",
        deadline=_china(alarm.raised_at + LIMIT_SECONDS),
        alarm=alarm.alarm,
        code=alarm.code,
        subject=alarm.subject,
        terminal=terminal,
        raised=_china(alarm.raised_at),
        repeats=alarm.repeats,
        known=_KNOWN.get(alarm.code) or _KNOWN.get(what, "终端只知道上述事件代码。"),
        done=_DONE.get(what) or _DONE.get(kind, "终端未自动采取其他措施。"),
        receipt=receipt,
        written=_china(now),
        blank=BLANK,
    )


def _china(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone(CHINA_TIME).strftime("%Y-%m-%d %H:%M:%S")
