"""Runs in place of the daemon under its unit, without the guard of its code: prints whom it reaches, as JSON."""

import errno
import json
import socket

PORT = 8883
CONNECT_SECONDS = 2.0


def connect(host: str) -> None:
    with socket.create_connection((host, PORT), CONNECT_SECONDS):
        pass


def send(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"data", (host, port))


ATTEMPTS = {
    "connect to the broker": lambda: connect("192.0.2.1"),
    "connect elsewhere": lambda: connect("192.0.2.2"),
    "connect to this machine": lambda: connect("127.0.0.1"),
    "send elsewhere": lambda: send("192.0.2.2", PORT),
    "send to this machine by IPv6": lambda: send("::1", PORT),
    "ask a resolver": lambda: send("127.0.0.53", 53),
}


def main() -> None:
    """A connection is given up after a while: the kernel throws its packets away and says nothing."""
    answer = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
            answer[name] = "done"
        except TimeoutError:
            answer[name] = "no answer"
        except OSError as error:
            answer[name] = errno.errorcode.get(error.errno or 0, str(error))
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
