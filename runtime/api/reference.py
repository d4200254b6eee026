"""Writes `docs/api.md` from the table of methods: `python -m runtime.api.reference > docs/api.md` (H12, I9)."""

import json
import sys
from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from runtime import texts
from runtime.api import openrpc, rpc, server
from runtime.api.connection import MOST_REQUESTS, SLOW_CLIENT_SECONDS
from runtime.api.examples import example_params, example_result
from runtime.api.methods import METHODS, NOTICES
from runtime.api.operations import MOST_KEPT, MOST_RUNNING
from runtime.api.preview import MOST_PREVIEWS, TOKEN_SECONDS
from runtime.api.table import Method
from runtime.state import HISTORY_LENGTH

_INTRODUCTION = f"""\
# Local API

JSON-RPC 2.0 over the Unix socket `api.socket`: one JSON text a line, UTF-8, both ways on one connection. This page is
generated: `python -m runtime.api.reference > docs/api.md`; `rpc.discover` returns the same as an OpenRPC document.

- **Version.** This is version {rpc.API_VERSION}. A careful client's first call is `rpc.hello` with the version it was
  written for; one that is not served is refused with `request.unsupported_version`, which says what is.
- **Who may call.** The kernel says which user connected (SO_PEERCRED). Users in `api.ui_users` have the role `ui`,
  those in `api.operator_users` the role `operator`, those in `api.tester_users` the role `tester`; who is `ui` is
  nothing else, and nobody else is served. Operators look after the machine, testers try the line; neither reaches a
  session. With `api.staff = "granted"` operators and testers have their role only while a grant of the platform says
  so, and `devices.accept`, `lockdown.clear` and `payments.reverse` need a second person ([audit](audit.md)).
- **Requests.** `params` is an object. Every request has an `id`, a number or a text; batches and notifications from the
  client are refused. Up to {MOST_REQUESTS} requests of a connection run at a time, and answers come as they are
  ready. A user has up to {server.MOST_CONNECTIONS} connections.
- **Limits.** A line longer than `api.line_limit_bytes` is refused with `request.too_large` and the connection is
  closed. A client that takes nothing for {SLOW_CLIENT_SECONDS:g} s is cut off.
- **Sessions.** A session belongs to the connection that opened it and is known to no other. It ends by `session.close`,
  after `session.idle_seconds` without a request or `session.longest_seconds` in all, when the connection is lost, or
  when the daemon stops; its operations are then cancelled, and it is gone when all it held is wiped.
- **Operations.** Any call but those of operations can be started with `operation.start`, waited for and cancelled; a
  plain call is answered when it is done. Up to {MOST_RUNNING} run on a connection, the last {MOST_KEPT} are remembered
  until their session or the connection ends. What had an effect outlives them all: see [Effects](#effects).
- **Changes.** `events.subscribe` gives the whole state, then each change with the next number. A client that lost its
  connection gives the `epoch` and the last `sequence` it took as `since`, and gets what it missed; when that is more
  than {HISTORY_LENGTH} changes, or the daemon was started anew, `lost` is true and the whole state is there instead.
- **Business results** have an `outcome`: `done`, `refused` with a `code` and a `text` for the citizen, or `pending`.
  `retry` says whether trying again may help. A broken device or line is a `refused`, not a JSON-RPC error.
- **Errors** are for requests that do not fit. Beside the number of JSON-RPC they carry `data`:
  `{{"code": "session.unknown", "retry": false, "advice": "call session.open"}}`, and `text` where there are words for
  the citizen. `message` and `advice` are for the developer.

```
> {{"jsonrpc": "2.0", "id": 1, "method": "session.open", "params": {{}}}}
< {{"jsonrpc": "2.0", "id": 1, "result": {{"session": "kW3…"}}}}
> {{"jsonrpc": "2.0", "id": 2, "method": "session.verify_identity", "params": {{"session": "kW3…"}}}}
< {{"jsonrpc": "2.0", "method": "session.guidance", "params": {{"session": "kW3…", "code": "idcard.place_card", …}}}}
< {{"jsonrpc": "2.0", "id": 2, "result": {{"outcome": "done", "name": "张**", …}}}}
```
"""

_ERRORS = f"""\
## Errors

| number | code | meaning |
| --- | --- | --- |
| {rpc.PARSE_ERROR} | `request.not_json` | the line is not JSON in UTF-8 |
| {rpc.INVALID_REQUEST} | `request.invalid` | JSON, but no request |
| {rpc.INVALID_REQUEST} | `request.batch` | batches are not served |
| {rpc.INVALID_REQUEST} | `request.too_large` | the line is too long; the connection is closed |
| {rpc.METHOD_NOT_FOUND} | `request.unknown_method` | there is no such method |
| {rpc.INVALID_PARAMS} | `request.bad_params` | the parameters are not the method's |
| {rpc.INTERNAL_ERROR} | `internal` | a fault of the daemon; it is in its log |
| {rpc.APPLICATION_ERROR} | `request.too_many` | {MOST_REQUESTS} requests of this connection are under way |
| {rpc.APPLICATION_ERROR} | `request.unsupported_version` | this version of the API is not served |
| {rpc.APPLICATION_ERROR} | `caller.unknown` | this user has no role; the connection is closed |
| {rpc.APPLICATION_ERROR} | `caller.too_many` | {server.MOST_CONNECTIONS} connections are open; this one is closed |
| {rpc.APPLICATION_ERROR} | `caller.not_allowed` | the method is for another role |
| {rpc.APPLICATION_ERROR} | `caller.not_granted` | no grant of the platform gives this user the role now |
| {rpc.APPLICATION_ERROR} | `caller.no_window` | the grant is for remote maintenance, and no window is open for it |
| {rpc.APPLICATION_ERROR} | `caller.second_person` | another operator is to approve of this act first |
| {rpc.APPLICATION_ERROR} | `session.busy` | a session is open |
| {rpc.APPLICATION_ERROR} | `session.unknown` | no such session on this connection |
| {rpc.APPLICATION_ERROR} | `session.not_verified` | the citizen is not verified yet |
| {rpc.APPLICATION_ERROR} | `session.ended` | the session ended while this was under way |
| {rpc.APPLICATION_ERROR} | `operation.unknown` | no such operation of this connection |
| {rpc.APPLICATION_ERROR} | `operation.too_many` | {MOST_RUNNING} operations are under way |
| {rpc.APPLICATION_ERROR} | `camera.missing` | the terminal has no such camera |
| {rpc.APPLICATION_ERROR} | `preview.too_many` | {MOST_PREVIEWS} previews were opened in this session |
| {rpc.APPLICATION_ERROR} | any other | the code of what failed, as `power.refused` or `journal.write_failed` |
"""


_DOCUMENTS = """\
## Documents

`session.begin_document`, then for each page `session.add_page` while `preview.open` of the document camera shows the
desk, and `preview.page` to look at what became of it; then `session.finish_document`.

A page is told of in numbers: `number` counts from 1, `sheet` and `side` say where it belongs; `width` and `height` are
pixels of the page at 200 dpi, `captured_dpi` is what the camera gave; `corners` are pixels of its picture, clockwise;
`turns` are the quarter turns clockwise that made it upright, null when its print did not say. `glare` is a share of the
page, `blurred` of its printed cells; `sharpness` is about 2 for print in focus, `paper` the paper's grey level,
`printed` the share of cells with print; `blank` tells a page without print. `session.progress` has the steps `find`,
`judge`, `turn` and `done` of a page, `compress` and `assemble` of the PDF. [documents.md](documents.md) says what pages
are refused for.
"""

_EFFECTS = """\
## Effects

Filing, paying, registering a request and printing act on the world. Each has an intent in the journal before it acts,
so that a lost connection, a cancelled operation, a power cut or a restart of the daemon leaves nothing open: the daemon
settles the intent with the platform, says so as a change of the component `settlement` (`last` is the kind, `outcome`
`acted` or `void`; no number, since every role reads it), and the outcome is asked for by the number that the citizen
was shown before the effect:

| effect | number | afterwards |
| --- | --- | --- |
| `application.file` | `receipt` of `application.begin` | `progress.by_receipt` |
| `payment.card`, a code to scan | `order` of `payment.begin` | `payment.await`; later `progress.by_receipt` |
| `hotline.register` | `receipt` of `hotline.begin` | `hotline.standing` |
| `session.request_certificate` | `receipt` of its result, printed on the paper | `session.reprint_certificate` |

The operation's own id does not outlive the connection; what a session held does not outlive the session.
"""

_AUDIT = """\
## Audit log

`audit.jsonl` in `state_directory` holds what happened to the machine and who did it, one JSON object a line, each with
the SM3 of the line before; nothing about citizens. `actor` is `daemon` or the caller, as `uid 1001`. `session` is a
random name, not the id that opens it; `transaction` is the one of the supervision records.

| event | details |
| --- | --- |
| `daemon_started`, `daemon_stopped` | `version`, `boot_id`, `rig` (0 or 1) |
| `start_refused` | `code` |
| `session_opened` | `session` |
| `identity_checked` | `session`, `transaction`, `outcome`, `code` |
| `document_begun`, `page_added`, `document_finished`, `document_discarded` | the same |
| `certificate_requested` | `session`, `transaction`, `outcome`, `code`, `certificate`, `number`, `paper` |
| `application_begun` | as `identity_checked`, and `matter` |
| `form_checked`, `material_taken`, `application_checked`, `application_filed` | as `identity_checked` |
| `progress_asked` | `transaction`, `code`; `session`, `outcome` of a verified citizen |
| `sharing_query`, `sharing_call`, `sharing_dataset` | as `progress_asked`, and `resource`, `purpose` |
| `sharing_reconciled` | `transaction`, `outcome`, `code`, `month` |
| `catalogue_rolled_back` | `from`, `to` |
| `session_ended` | `session`, `reason`: `closed`, `idle`, `too_long`, `client_lost` or `shutdown` |
| `power_off_ordered`, `power_off_failed` | `code` of the failure |
| `caller_refused` | `what`: `connect`, or the method; once for each user while the daemon runs |
| `preview_refused` | once for each user while the daemon runs |

`outcome` is `done`, `refused`, or `unknown` when the session ended meanwhile.
"""


def reference() -> str:
    """Return the page: conventions, methods, notifications, types, errors, the audit log and the citizen's texts."""
    parts = [_INTRODUCTION, "## Methods\n", *(part for method in METHODS for part in _method(method))]
    parts.append("## Notifications\n")
    for notice in NOTICES:
        parts += [f"### `{notice.name}`\n", f"{notice.description}\n"]
        parts += [_table(notice.params)] if msgspec.structs.fields(notice.params) else []
    parts.append("## Shared types\n")
    for kind in _shared():
        parts += [f"### {kind.__name__}\n", f"{_first_line(kind)}\n", _table(kind)]
    preview = f"connects, sends the token and a newline within {TOKEN_SECONDS:g} s of `preview.open`, and reads frames"
    parts += ["## Previews\n", f"On `api.preview_socket` a client of the role `ui` {preview}:"]
    parts += ["each a 4-byte big-endian length and a JPEG, the newest only, until the session ends; of a page one."]
    parts += ["", _DOCUMENTS, _EFFECTS, _ERRORS, _AUDIT]
    parts += ["## Codes and texts\n", "| code | text | English |\n| --- | --- | --- |"]
    parts += [f"| `{code}` | {texts.text(code).zh} | {texts.text(code).en} |" for code in sorted(texts.codes())]
    return "\n".join(parts) + "\n"


def _method(method: Method) -> list[str]:
    role = f"role `{method.role}`" if method.role is not None else "every role"
    parts = [f"### `{method.name}` ({role})\n", f"{method.description}\n"]
    parts += ["Parameters:\n", _table(method.params)] if msgspec.structs.fields(method.params) else []
    parts += ["Result:\n", _table(method.result)] if msgspec.structs.fields(method.result) else []
    codes = [code for code in openrpc.errors(method) if code not in openrpc.ALWAYS]
    parts += [f"Errors: {', '.join(f'`{code}`' for code in codes)}.\n"] if codes else []
    request = {"jsonrpc": "2.0", "id": 1, "method": method.name, "params": example_params(method.params)}
    answer = {"jsonrpc": "2.0", "id": 1, "result": example_result(method.name, method.result)}
    said = (f"> {json.dumps(request, ensure_ascii=False)}", f"< {json.dumps(answer, ensure_ascii=False)}")
    return [*parts, "```", *said, "```\n"]


def _shared() -> list[type[msgspec.Struct]]:
    """Return the Structs that stand in parameters, results and notifications, by their names."""
    tops = {kind for method in METHODS for kind in (method.params, method.result)}
    tops |= {notice.params for notice in NOTICES}
    return sorted(_within(tops) - tops, key=lambda kind: kind.__name__)


def _within(kinds: Iterable[type[msgspec.Struct]]) -> set[type[msgspec.Struct]]:
    found = {one for kind in kinds for field in msgspec.structs.fields(kind) for one in _named(field.type)}
    return found | _within(found) if found else found


def _named(kind: Any) -> set[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {kind}
    return {one for argument in get_args(kind) for one in _named(argument)}


def _first_line(kind: type[msgspec.Struct]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _table(kind: type[msgspec.Struct]) -> str:
    schema = msgspec.json.schema_components([kind], ref_template="{name}")[1][kind.__name__]
    rows = ["| field | type | required |", "| --- | --- | --- |"]
    for field in msgspec.structs.fields(kind):
        shape = _shape(schema["properties"][field.encode_name])
        rows.append(f"| `{field.encode_name}` | {shape} | {'yes' if field.required else 'no'} |")
    return "\n".join(rows) + "\n"


def _shape(schema: dict[str, Any]) -> str:
    """Say a JSON schema in words."""
    if "$ref" in schema:
        return str(schema["$ref"])
    if "anyOf" in schema:
        return " or ".join(_shape(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        kind = f"array of {_shape(schema.get('items', {}))}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        kind = f"object of {_shape(schema['additionalProperties'])}"
    elif "pattern" in schema:
        kind = f"{kind} matching `{schema['pattern']}`"
    return kind


if __name__ == "__main__":
    sys.stdout.write(reference())
