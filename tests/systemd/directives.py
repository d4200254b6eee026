"""What shows that each directive of the unit is in force; one that stands several times has a row for each line."""

from dataclasses import dataclass

from tests.systemd.probe import ON_X86_64


@dataclass(frozen=True, slots=True)
class Refuses:
    """Attempts that a service may make which has only the lines `beside`, and may not with the directive as well."""

    attempts: tuple[str, ...]
    beside: tuple[str, ...] = ()


_AS_ITS_USER = ("User=govterm",)
_FILTERED = ("SystemCallErrorNumber=EPERM",)

REFUSES = {
    "User": Refuses(("read the shadow file", "read a key on the disk", "read PID 1's environment", "mount")),
    "NoNewPrivileges": Refuses(("root by a set-user-id program",), _AS_ITS_USER),
    "CapabilityBoundingSet": Refuses(
        ("mount", "another user", "chroot", "a device node", "a packet socket", "real-time scheduling", "reboot")
    ),
    "DevicePolicy": Refuses(("open another device", "a device node")),
    "ProtectSystem": Refuses(("write the models", "write the configuration", "write its own program")),
    "ProtectHome": Refuses(("read a file of a home", "read a file of root's home")),
    "PrivateTmp": Refuses(("read another's file in /tmp",)),
    "PrivateIPC": Refuses(("another's shared memory",)),
    "PrivateMounts": Refuses(("share PID 1's mounts",)),
    "ProtectProc": Refuses(("see PID 1",), _AS_ITS_USER),
    "ProtectKernelTunables": Refuses(("write a kernel setting",)),
    "ProtectKernelModules": Refuses(("load a module", "read the kernel's modules")),
    "ProtectKernelLogs": Refuses(("ask the kernel's log",)),
    "ProtectControlGroups": Refuses(("write control groups",)),
    "ProtectClock": Refuses(("set the clock",)),
    "ProtectHostname": Refuses(("set the host name",)),
    "LockPersonality": Refuses(("another personality",)),
    "RestrictRealtime": Refuses(("real-time scheduling",)),
    "RestrictSUIDSGID": Refuses(("a set-user-id file", "a set-group-id file")),
    "RestrictNamespaces": Refuses(("a user namespace", "a mount namespace")),
    "MemoryDenyWriteExecute": Refuses(("memory to write and execute", "memory made executable later")),
    "SystemCallFilter=@system-service": Refuses(("mount", "ptrace", "reboot", "load a module"), _FILTERED),
    "SystemCallFilter=~@privileged @resources": Refuses(
        ("another user", "chroot", "set the clock", "set the host name", "real-time scheduling", "another priority"),
        _FILTERED,
    ),
    "SystemCallFilter=~@aio @keyring process_vm_readv process_vm_writev userfaultfd kcmp": Refuses(
        (
            *("io_uring", "a key of the kernel's", "another process's memory", "write another process's memory"),
            *("page faults of its own", "compare processes"),
        ),
        _FILTERED,
    ),
    "SystemCallFilter=~memfd_create": Refuses(("memory with a file name",), _FILTERED),
    "InaccessiblePaths": Refuses(("memory shared by name",)),
    "NoExecPaths": Refuses(
        (
            *("a program in its state", "a program in its /tmp", "a program in /var/tmp"),
            *("a program in its runtime directory", "a library in its state", "a library in its /tmp"),
        )
    ),
    "RestrictAddressFamilies": Refuses(("a packet socket", "a VM socket")),
    "IPAddressDeny": Refuses(("send to this machine",)),
}

SHOWN_IN = {
    "DeviceAllow=char-ttyS rw": "test_confinement.test_a_device_class_is_let_in_by_its_line_alone",
    "IPAddressAllow": "test_boot.test_it_speaks_to_the_broker_alone",
    "SystemCallErrorNumber": "test_confinement.test_what_the_sandbox_forbids_is_refused",
    "UMask": "test_confinement.test_what_the_sandbox_forbids_is_refused",
    "RemoveIPC": "test_confinement.test_nothing_of_its_user_stays_in_shared_memory",
    "Group": "test_installed.test_both_processes_run_confined",
    "SupplementaryGroups": "test_installed.test_both_processes_run_confined",
    "LimitCORE": "test_installed.test_both_processes_run_confined",
    "LoadCredential": "test_installed.test_keys_reach_the_daemon_alone",
    "StateDirectory": "test_installed.test_users_directories_and_sockets_are_as_told",
    "StateDirectoryMode": "test_installed.test_users_directories_and_sockets_are_as_told",
    "RuntimeDirectory": "test_installed.test_users_directories_and_sockets_are_as_told",
    "RuntimeDirectoryPreserve": "test_installed.test_it_stops_in_order_within_its_time",
}
"""Directives that another test shows, and which."""

DECLARED = {
    *(f"DeviceAllow=char-{name} rw" for name in ("ttyUSB", "ttyACM", "usb", "video4linux")),
    *("MemoryMax", "MemorySwapMax", "TasksMax", "LimitMEMLOCK", "SocketBindDeny", "AmbientCapabilities", "KeyringMode"),
    *("PrivateDevices", "PrivateUsers", "ProcSubset", "RuntimeDirectoryMode"),
}
"""Directives of which only systemd's own answer is asked; docs/supervision.md says why of each."""

RUNS_IT = frozenset(
    (
        *("Type", "NotifyAccess", "ExecStartPre", "ExecStart", "SyslogIdentifier", "Restart", "RestartSec", "KillMode"),
        *("TimeoutStartSec", "TimeoutStopSec", "WatchdogSec", "OOMPolicy", "Environment"),
    )
)
"""Directives that confine nothing: how it is started, kept and ended."""

if ON_X86_64:
    REFUSES["SystemCallArchitectures"] = Refuses(("a call of another architecture",))
else:
    DECLARED.add("SystemCallArchitectures")
