"""The NUT network protocol without I/O: both halves of the conversation (protocols 4.4, RFC 9271).

Lines of words that end with LF; a word with blanks stands in double quotes, where a backslash keeps the next character.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from devices.driver import Damage

LONGEST = 2048
"""A line is never longer; NUT's own limit is 1,024 bytes."""
MOST_VARIABLES = 512
"""More than any UPS has."""
DEFAULT_PORT = 3493


@dataclass(frozen=True, slots=True)
class Address:
    """Where a NUT server's UPS is; without a user nothing but reading is allowed."""

    host: str
    port: int
    user: str | None
    ups: str

    @property
    def link(self) -> str:
        """The port to open."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


def parse_address(url: str) -> Address:
    """Return the parts of `nut://USER@HOST:PORT/UPS`, of which `USER@` and `:PORT` may be missing.

    Raises ValueError when it is none, and when it has a password, which belongs in a file.
    """
    parts = urlsplit(url)
    ups = parts.path.removeprefix("/")
    fits = parts.scheme == "nut" and parts.hostname and ups and "/" not in ups and not parts.query + parts.fragment
    if not fits or parts.hostname is None or parts.password is not None:
        raise ValueError("port must be nut://USER@HOST:PORT/UPS without a password")
    return Address(parts.hostname, parts.port or DEFAULT_PORT, parts.username, ups)


def encode_line(*words: str) -> bytes:
    """Return a line of words, as either side says it; raise ValueError for a word that no line can carry."""
    if any(not character.isprintable() for word in words for character in word):
        raise ValueError("a word has a character that is not printable")
    return " ".join(map(_quote, words)).encode() + b"\n"


def encode_listing(ups: str, variables: dict[str, str]) -> bytes:
    """Return the answer to LIST VAR, as the rig's server says it."""
    head = ("LIST", "VAR", ups)
    lines = [("BEGIN", *head), *(("VAR", ups, *variable) for variable in variables.items()), ("END", *head)]
    return b"".join(encode_line(*line) for line in lines)


Words = tuple[str, ...]
"""A line. `Words(("ERR", "DATA-STALE"))` is an error; every other answer begins with what it answers, or with OK."""


class WordsDecoder:
    """Cuts the bytes of a connection into lines of words, whatever the chunks; keeps at most LONGEST bytes."""

    def __init__(self) -> None:
        self._buffer = b""
        self._skipping = False

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their line."""
        return len(self._buffer)

    def reset(self) -> None:
        """Forget a line that was begun."""
        self._buffer, self._skipping = b"", False

    def feed(self, data: bytes) -> list[Words | Damage]:
        """Take any bytes; return the lines that are complete, and where one is none."""
        found: list[Words | Damage] = []
        *lines, rest = (self._buffer + data).split(b"\n")
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif len(line) > LONGEST:
                found.append(Damage("long"))
            elif words := _split(line.removesuffix(b"\r")):
                found.append(words)
            elif words is None:
                found.append(Damage("quote"))
        if len(rest) > LONGEST:
            if not self._skipping:
                found.append(Damage("long"))
            self._skipping = True
        self._buffer = b"" if self._skipping else rest
        return found


class Listing:
    """Gathers the answer to LIST VAR."""

    def __init__(self, ups: str) -> None:
        self.variables: dict[str, str] = {}
        self.error: str | None = None
        self._ups = ups
        self._begun = False

    def take(self, words: Words) -> bool:
        """Take a line; tell whether it is the end."""
        if words[0] == "ERR":
            self.error = error_of(words)
            return True
        if words == ("BEGIN", "LIST", "VAR", self._ups):
            self._begun = True
        elif self._begun and words[:2] == ("VAR", self._ups) and len(words) == 4:
            self.variables[words[2]] = words[3]
        return self._begun and (words == ("END", "LIST", "VAR", self._ups) or len(self.variables) > MOST_VARIABLES)


def error_of(words: Words) -> str | None:
    """Return the name of an error such as ACCESS-DENIED; None for any other answer."""
    if words[0] != "ERR":
        return None
    return words[1] if len(words) > 1 else "UNKNOWN"


def _quote(word: str) -> str:
    if word and not set(word) & set(' "\\#='):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _split(line: bytes) -> Words | None:
    """Return the words of a line, none for an empty one; None when a quotation does not end."""
    words: list[str] = []
    word: list[str] | None = None
    quoted = escaped = False
    for character in line.decode("utf-8", "replace"):
        if escaped:
            word, escaped = [*(word or []), character], False
        elif character == "\\":
            escaped = True
        elif character == '"':
            word, quoted = word or [], not quoted
        elif character in " \t" and not quoted:
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = word or []
            word.append(character)
    if quoted or escaped:
        return None
    if word is not None:
        words.append("".join(word))
    return tuple(words)
