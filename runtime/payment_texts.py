"""What a citizen reads of payments: a part of the catalogue of `runtime.texts`."""

from runtime.device_texts import Text

_RETURNING = Text(
    "缴费结果待确认，如已扣款将自动原路退回。",
    "It is being found out; if money was taken, it goes back by itself.",
)
_NOT_CHARGED = Text("缴费未成功，未扣款，无需支付。", "The payment did not succeed; nothing was charged or is owed.")

PAYMENT: tuple[tuple[tuple[str, ...], Text], ...] = (
    (("payment.insert_card",), Text("请插入银行卡。", "Please insert your bank card.")),
    (("payment.enter_pin",), Text("请输入密码，按确认键结束。", "Please enter the PIN and press enter.")),
    (("payment.take_card",), Text("请取走您的银行卡。", "Please take your bank card.")),
    (("payment.scan_code",), Text("请用手机扫码支付。", "Please scan the code with your telephone.")),
    (("payment.begun",), Text("订单已生成，请支付。", "The order is open; please pay.")),
    (("payment.paid",), Text("缴费成功。", "The payment succeeded.")),
    (("payment.awaiting",), Text("正在等待缴费结果，请稍候。", "The result is waited for; please wait.")),
    (("payment.needs_card",), Text("请先插卡缴费。", "Please pay with your card first.")),
    (("payment.not_charged", "payment.given_up"), _NOT_CHARGED),
    (("payment.expired",), Text("超时未支付，订单已关闭，未扣款。", "It was not paid in time; nothing was charged.")),
    (("payment.cancelled",), Text("缴费已取消，未扣款。", "The payment is cancelled; nothing was charged.")),
    (
        ("payment.reversed", "payment.not_used", "payment.charged_late", "payment.ordered_back"),
        Text(
            "款项已原路退回，到账时间以银行为准。",
            "The money went back to where it came from; the bank says when it is there.",
        ),
    ),
    (("payment.reversing",), _RETURNING),
    (
        ("payment.wrong_amount",),
        Text("金额不符，缴费已取消，如已扣款将原路退回。", "The amount was wrong; whatever was charged goes back."),
    ),
    (("payment.wrong_pin",), Text("密码错误，请重试。", "The PIN is wrong; please try again.")),
    (("payment.pin_tries",), Text("密码错误次数过多，请换卡支付。", "Too many wrong PINs; please use another card.")),
    (("payment.insufficient_funds",), Text("余额不足，未扣款。", "There is not enough money; nothing was charged.")),
    (
        ("payment.card_refused",),
        Text("银行拒绝该卡，未扣款，请换卡或联系发卡行。", "The bank refuses this card; nothing was charged."),
    ),
    (
        ("payment.bad_card_data", "payment.pin_key_unknown"),
        Text("银行卡处理失败，未扣款，请重试。", "The card could not be processed; nothing was charged."),
    ),
    (("payment.wrong_method",), Text("该订单不支持此支付方式。", "The order is not for this way of paying.")),
    (("payment.wrong_purpose",), Text("缴费与所办事项不符。", "This is not the application that is being made.")),
    (("payment.nothing_due",), Text("该事项无需缴费。", "The matter costs nothing.")),
    (("payment.already_paid",), Text("已缴费，请勿重复支付。", "It is paid already; please do not pay again.")),
    (("payment.under_way",), Text("上一笔缴费尚未结束，请先取消。", "Another order is open; cancel it first.")),
    (("payment.unsettled",), Text("上一笔缴费正在确认，请稍后再试。", "The last order is being settled; try later.")),
    (("payment.unknown_order", "payment.order_used"), Text("没有该订单。", "There is no such order.")),
    (("payment.used",), Text("已提交申请，缴费不能退回。", "It is filed; its fee does not go back.")),
    (("payment.invalid",), _NOT_CHARGED),
    (("payment.slip_printed",), Text("凭条已打印，请取走。", "The slip is printed; please take it.")),
    (
        ("payment.paper_unknown",),
        Text("无法确认凭条是否打印完整，请检查纸张。", "It is not known whether the slip was printed whole."),
    ),
    (("payment.no_slip",), Text("未缴费，没有凭条。", "Nothing was paid; there is no slip.")),
    (("payment.day_shown",), Text("当日缴费清单。", "The payments of the day.")),
    (("payment.day_equal",), Text("与平台清单一致。", "The platform's list is the same.")),
    (("payment.day_differs",), Text("与平台清单不一致，请人工核对。", "The lists differ; a person must look.")),
    (("payment.day_unsettled",), Text("有订单尚未结束，请稍后再对账。", "Some orders have not ended; compare later.")),
    (("payment.not_different",), Text("该订单没有可退回的差异。", "The order does not differ so that it can go back.")),
    (("paper.payment",), Text("缴费凭条", "Payment slip")),
    (("paper.order",), Text("订单号", "Order")),
    (("paper.method",), Text("支付方式", "Method")),
    (("paper.amount",), Text("金额（元）", "Amount (yuan)")),
    (("paper.state",), Text("状态", "State")),
    (("paper.time",), Text("时间", "Time")),
    (("paper.terminal",), Text("终端号", "Terminal")),
    (("paper.unionpay_card",), Text("银联卡", "UnionPay card")),
    (("paper.unionpay_qr",), Text("云闪付扫码", "UnionPay QR")),
    (("paper.ecny_qr",), Text("数字人民币扫码", "e-CNY QR")),
    (("paper.paid",), Text("缴费成功", "paid")),
    (("paper.reversed",), Text("已原路退回", "given back")),
    (("paper.reversing",), Text("处理中，如已扣款将原路退回", "whatever was charged goes back")),
    (("receipt.paid",), Text("已缴费", "paid")),
    (("receipt.reversed",), Text("已原路退回", "given back")),
)
