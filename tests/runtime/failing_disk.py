"""A disk that fails one thread: from then on the kernel answers its calls with EIO (seccomp(2))."""

import ctypes
import errno
import platform
import struct

_NUMBERS = {
    "x86_64": {"pread64": 17, "pwrite64": 18, "fsync": 74, "fdatasync": 75},
    "aarch64": {"pread64": 67, "pwrite64": 68, "fsync": 82, "fdatasync": 83},
}
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD_NUMBER, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def fail(*calls: str) -> None:
    """Have these calls of this thread fail with EIO; raise OSError where the kernel takes no filter."""
    numbers = _NUMBERS[platform.machine()]
    code = struct.pack("=HBBI", _LOAD_NUMBER, 0, 0, 0)
    for call in calls:
        code += struct.pack("=HBBI", _IF_EQUAL, 0, 1, numbers[call])
        code += struct.pack("=HBBI", _RETURN, 0, 0, _ERROR | errno.EIO)
    code += struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW)
    held = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")
