"""Serve one citizen over the local API: python client.py SOCKET (standard library only)."""

import json
import socket
import sys


def main(path: str) -> None:
    """Open a session, verify the citizen, print a certificate, close."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        lines = connection.makefile("rw", encoding="utf-8", newline="\n")
        numbers = iter(range(1, 1000))

        def call(method: str, **params: object) -> dict[str, object]:
            number = next(numbers)
            json.dump({"jsonrpc": "2.0", "id": number, "method": method, "params": params}, lines)
            lines.write("\n")
            lines.flush()
            for line in lines:
                message = json.loads(line)
                if message.get("id") != number:
                    print("…", message["method"], message["params"].get("text", ""))
                elif "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                else:
                    return message["result"]
            sys.exit("the daemon closed the connection")

        session = call("session.open")["session"]
        call("session.consent", session=session, agreed=True, version="1")  # once the citizen has agreed
        print(call("session.verify_identity", session=session))
        print(call("session.request_certificate", session=session, certificate="social_insurance_enrolment"))
        call("session.close", session=session)


if __name__ == "__main__":
    main(sys.argv[1])
