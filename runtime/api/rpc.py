"""JSON-RPC 2.0 in newline-delimited lines, without I/O: bytes in, requests out (H12).

Every request has an id; a batch and a notification from the client are refused by name. Errors carry
`data: {code, retry, advice}` beside the numbers of the standard, and the citizen's `text` where the code has words.
"""

from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta

API_VERSION = 2
"""The version of the table of methods: raised when a client of the one before would be misled."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
APPLICATION_ERROR = -32000

RequestId = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(max_length=128)]
"""A request's id: a number that every JSON reader keeps exact, or a short text."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that are no JSON, no UTF-8, or nested too deep."""


class RpcError(Exception):
    """A request that is answered with a JSON-RPC error; `request_id` is None when the request had none to read.

    `text` is for the citizen, where the code has words.
    """

    def __init__(
        self,
        number: int,
        code: str,
        message: str,
        *,
        advice: str,
        retry: bool = False,
        request_id: RequestId | None = None,
        text: str | None = None,
    ) -> None:
        super().__init__(message)
        self.number = number
        self.code = code
        self.retry = retry
        self.advice = advice
        self.request_id = request_id
        self.text = text


class Request(msgspec.Struct, frozen=True):
    """A request: its id, its method and its parameters as undecoded JSON."""

    id: RequestId
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


class _Head(msgspec.Struct):
    id: RequestId | None = None


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    jsonrpc: str
    id: RequestId
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


class LineSplitter:
    """Cuts a stream into lines, holding at most `limit_bytes` and the chunk just fed."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes, without their newlines and without empty ones.

        Raises RpcError `request.too_large` when a line is over the limit; the stream is then past saving.
        """
        lines: list[bytes] = []
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._keep(chunk[start:end])
            if line := bytes(self._rest).strip():
                lines.append(line)
            self._rest.clear()
            start = end + 1
        self._keep(chunk[start:])
        return lines

    def _keep(self, piece: bytes) -> None:
        if len(self._rest) + len(piece) > self._limit:
            self._rest.clear()
            raise RpcError(
                INVALID_REQUEST,
                "request.too_large",
                f"a line is longer than {self._limit} bytes",
                advice="send shorter requests; pictures never travel on this connection",
            )
        self._rest += piece


def parse(line: bytes) -> Request:
    """Read one line as a request; raise RpcError with what is wrong."""
    try:
        wire = msgspec.json.decode(line, type=_Wire)
    except msgspec.ValidationError as error:
        _refuse(line, str(error))
    except UNREADABLE:
        raise RpcError(
            PARSE_ERROR, "request.not_json", "the line is not JSON", advice="send one JSON text a line, in UTF-8"
        ) from None
    if wire.jsonrpc != "2.0":
        raise RpcError(
            INVALID_REQUEST, "request.invalid", "jsonrpc is not 2.0", advice="speak JSON-RPC 2.0", request_id=wire.id
        )
    return Request(wire.id, wire.method, wire.params)


def _refuse(line: bytes, reason: str) -> NoReturn:
    """Say why JSON is no request. msgspec's reasons name types and fields, never values."""
    if line.lstrip().startswith(b"["):
        raise RpcError(
            INVALID_REQUEST, "request.batch", "batches are not served", advice="send each request on a line of its own"
        )
    try:
        request_id = msgspec.json.decode(line, type=_Head).id
    except UNREADABLE:
        request_id = None
    raise RpcError(
        INVALID_REQUEST,
        "request.invalid",
        f"not a request: {reason}",
        advice="a request is {jsonrpc, id, method, params}; id is a number or a text",
        request_id=request_id,
    )


def encode_result(request_id: RequestId, result: msgspec.Struct) -> bytes:
    """Write the answer to a request."""
    return _line({"jsonrpc": "2.0", "id": request_id, "result": result})


def encode_error(request_id: RequestId | None, error: RpcError) -> bytes:
    """Write the refusal of a request."""
    data: dict[str, str | bool] = {"code": error.code, "retry": error.retry, "advice": error.advice}
    if error.text is not None:
        data["text"] = error.text
    body = {"code": error.number, "message": str(error), "data": data}
    return _line({"jsonrpc": "2.0", "id": request_id, "error": body})


def encode_notification(method: str, params: msgspec.Struct) -> bytes:
    """Write a notification."""
    return _line({"jsonrpc": "2.0", "method": method, "params": params})


def _line(message: dict[str, Any]) -> bytes:
    return msgspec.json.encode(message) + b"\n"
