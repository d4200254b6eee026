"""What a citizen with planted values brings to a terminal, and what of it is searched for afterwards (T20).

Texts and card data are known before the visit. Pictures, paper, the PIN block and the template are known after it: from
what went through the cameras' cables, lies in the printer's tray, and the bank and the models compute.
"""

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pictures

from sim.devices import pinblock
from sim.people import Citizen
from sim.photo import decode
from sim.platform.bank import PIN
from sim.scan import Needle, needles, pieces
from vision.errors import VisionError
from vision.models import Floats, Image, Models
from vision.pipeline import FaceCheck
from vision.scan import Scan
from vision.upright import Reader

NUMBER = "6222029380472652"
"""A bank card's number with a right check digit that no bank issued."""
TELEPHONE = "13977512846"
REQUEST = "望江亭旁第七盏路灯坏了整整三个星期。"
CERTIFICATE_NUMBER = "样本不动产权第7391846号"
PAID_FORM: dict[str, Any] = {"purpose": "交易", "certificate_number": CERTIFICATE_NUMBER}
FREE_FORM: dict[str, Any] = {
    "permit_number": "990101198802290517",
    "address": "示例省样本市虚构区望鹤楼巷816号",
    "telephone": TELEPHONE,
    "reason": "务工",
}
CONTROL = "control"
SAID_IN_CLEAR = "样本对照：消息服务器的存储里必须找得到这一句。"
"""A message that no citizen brought, published in clear so that the search of the broker's store finds it."""
FINGER = hashlib.shake_128(b"features of a finger that nobody has").digest(480)
"""What the card carries of a finger."""
_STRIP_BYTES, _DISTINCT = 48, 16
"""A strip of a picture is searched for when so many of its bytes differ."""
_MOST_PDF_BYTES = 5_000_000


def known_before(citizen: Citizen, photo: bytes) -> list[Needle]:
    """Return what is searched for of the texts and of the card's photo block (1,024 bytes), in every form."""
    texts = {
        "name": citizen.name,
        "ID number": citizen.id_number,
        "address": citizen.address,
        "date of birth": citizen.birth,
        "issuer": citizen.issuer,
        "card number": NUMBER,
        "account": NUMBER[3:15],
        "track 2": f"{NUMBER}=3012",
        "telephone": TELEPHONE,
        "request": REQUEST,
        "certificate number": CERTIFICATE_NUMBER,
        "permit number": FREE_FORM["permit_number"],
        "form's address": FREE_FORM["address"],
        CONTROL: SAID_IN_CLEAR,
    }
    return [
        *needles(texts, {"photo block": photo, "finger": FINGER}),
        Needle("card number", "BCD", bytes.fromhex(NUMBER)),
    ]


def of_face(photo: bytes, models: Models) -> tuple[list[Needle], Floats]:
    """Return what is searched for of the decoded photo, raw, and the template of its face, for `Likeness`."""
    picture = decode(photo)
    template = FaceCheck(models, picture, frames=1)._reference  # noqa: SLF001 - the value that must not be found
    return _rows("photo", picture) + _raw("template", template.tobytes()), template


def of_cameras(face: Iterable[bytes], document: Iterable[bytes]) -> list[Needle]:
    """Return what is searched for of the cameras' JPEGs: as they are, decoded, and what is made of a page."""
    wanted: list[Needle] = []
    for what, jpegs in (("face frame", face), ("document frame", document)):
        for jpeg in dict.fromkeys(jpegs):
            wanted += _raw(f"{what}, JPEG", jpeg)
            picture = _decoded(jpeg)
            wanted += _rows(what, picture) + _rows(f"{what}, mirrored", np.ascontiguousarray(picture[:, ::-1]))
    for jpeg in dict.fromkeys(document):
        scan = Scan(Reader())
        try:
            scan.add(_decoded(jpeg))
        except VisionError:
            continue  # a frame that is no page, as before its exposure settled
        wanted += _rows("page", scan.page(1)) + _raw("document", scan.pdf(_MOST_PDF_BYTES))
    return wanted


def of_previews(shown: Iterable[bytes]) -> list[Needle]:
    """Return what is searched for of the JPEGs that the previews showed."""
    return [needle for jpeg in shown for needle in _raw("preview", jpeg)]


def of_papers(papers: Iterable[Path]) -> list[Needle]:
    """Return what is searched for of the printed paper: its dots, as they go to the printer."""
    wanted: list[Needle] = []
    for paper in papers:
        with Pictures.open(paper) as picture:
            dots = bytes(byte ^ 0xFF for byte in picture.convert("1").tobytes())
        strips = (dots[start : start + _STRIP_BYTES] for start in range(0, len(dots), _STRIP_BYTES))
        wanted += [Needle("paper", "raw", strip) for strip in strips if len(set(strip)) >= _DISTINCT]
    return wanted


def of_bank(platform: Path) -> list[Needle]:
    """Return the PIN blocks that the bank's keys make, in every form; the PIN itself never leaves the pad."""
    with closing(sqlite3.connect(f"{platform.absolute().as_uri()}?mode=ro", uri=True)) as database:
        keys = database.execute("SELECT algorithm, key FROM pin_keys").fetchall()
    blocks = [pinblock.pin_block(algorithm, key, PIN, NUMBER[3:15]) for algorithm, key in keys]
    return [one for block in blocks for one in needles({}, {"PIN block": block})]


def _decoded(jpeg: bytes) -> Image:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("the frame is no JPEG")
    return picture.astype(np.uint8, copy=False)


def _raw(what: str, data: bytes) -> list[Needle]:
    return [Needle(what, "raw", piece) for piece in pieces(what, data)]


def _rows(what: str, picture: Image) -> list[Needle]:
    """Return a piece of each of some rows of a picture, where they are distinct."""
    wanted = []
    for row in picture[:: max(1, len(picture) // 9)]:
        middle = row.reshape(-1)[row.size // 2 :][:_STRIP_BYTES].tobytes()
        if len(set(middle)) >= _DISTINCT:
            wanted.append(Needle(what, "rows", middle))
    return wanted
