"""What a citizen reads of shared information: a part of the catalogue of `runtime.texts`."""

from runtime.device_texts import Text

_NOT_SHARED = Text("本机无权使用该信息。", "This terminal may not use this information.")
_BAD_DATA = Text("信息校验未通过，请稍后再试。", "The information did not pass its check; please try later.")
_UNFINISHED = Text("信息尚未更新完毕，请稍后再试。", "The information is being updated; please try later.")
_SUSPENDED = Text("信息共享服务已暂停，请咨询工作人员。", "Information sharing is suspended; please ask the staff.")
_UNKNOWN = Text("信息共享服务暂不可用，请稍后再试。", "Information sharing is not available yet; please try later.")

SHARING: tuple[tuple[tuple[str, ...], Text], ...] = (
    (("sharing.found",), Text("查询完成。", "Here is what was found.")),
    (("sharing.dataset_ready",), Text("信息已是最新。", "The information is up to date.")),
    (("sharing.active",), Text("信息共享服务正常。", "Information sharing is in service.")),
    (("sharing.suspended",), _SUSPENDED),
    (("sharing.no_grants", "sharing.busy"), _UNKNOWN),
    (
        (
            "sharing.unknown_resource",
            "sharing.not_granted",
            "sharing.other_purpose",
            "sharing.other_mode",
            "sharing.grant_expired",
            "sharing.personal_dataset",
            "sharing.grants_forged",
            "sharing.grants_older",
        ),
        _NOT_SHARED,
    ),
    (("sharing.needs_session",), Text("请先核验身份。", "Please have your identity verified first.")),
    (("sharing.bad_parameters",), Text("查询条件有误，请修改。", "What you asked for is wrong; please correct it.")),
    (("sharing.stale", "sharing.bad_time"), Text("信息已过期，请稍后再试。", "The information is too old; try later.")),
    (
        (
            "sharing.damaged",
            "sharing.incomplete",
            "sharing.bad_rows",
            "sharing.wrong_resource",
            "sharing.wrong_person",
            "sharing.older_version",
            "sharing.too_large",
            "sharing.check_slow",
            "sharing.use_reused",
        ),
        _BAD_DATA,
    ),
    (
        ("sharing.no_dataset", "sharing.pull_under_way", "sharing.pull_unfinished", "sharing.version_changed"),
        _UNFINISHED,
    ),
    (("sharing.not_counted",), Text("本次查询未完成，请重试。", "The enquiry was not completed; please try again.")),
    (("sharing.count_equal",), Text("与平台计量一致。", "The platform counted the same.")),
    (("sharing.count_differs",), Text("与平台计量不一致。", "The platform counted otherwise.")),
)
