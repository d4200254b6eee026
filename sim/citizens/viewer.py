"""`python -m sim.citizens.viewer SOCKET TOKEN`: look at a preview to its end, and say how many frames came."""

import socket
import sys


def main(path: str, token: str) -> None:
    """Read frames, each a 4-byte big-endian length and a JPEG; the line `ready` says that the first one is there."""
    with socket.socket(socket.AF_UNIX) as preview:
        preview.connect(path)
        preview.sendall(token.encode() + b"\n")
        frames = preview.makefile("rb")
        count = 0
        while head := frames.read(4):
            frames.read(int.from_bytes(head, "big"))
            count += 1
            if count == 1:
                _say("ready")
        _say(str(count))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
