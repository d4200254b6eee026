"""Why a document cannot be taken, by code (T2)."""

from vision.errors import VisionError

_REFUSALS: dict[str, tuple[str, str, bool]] = {
    "document.unreadable": ("the camera's picture cannot be looked at", "check the camera's format", False),
    "document.resolution_too_low": (
        "the camera's picture has fewer than 5 megapixels",
        "set document_width and document_height to what the camera can do, or replace it",
        False,
    ),
    "document.too_dark": ("the page is too dark", "turn the lamp on", True),
    "document.too_bright": ("the page is overexposed", "dim the lamp or lower the camera's exposure", True),
    "document.no_page": ("no page is seen", "lay one page flat on the desk, alone", True),
    "document.cut_off": ("the page leaves the picture", "move the page into the middle", True),
    "document.too_small": ("the page is too far from the camera", "bring the camera closer", True),
    "document.glare": ("a lamp is reflected on the page", "turn the page or move the lamp", True),
    "document.blurred": ("the page is not sharp", "hold the page still, or focus the camera", True),
    "document.timeout": ("the document was not ready in time", "try again", True),
    "document.not_begun": ("no document is begun", "begin one; a new vision process has none", False),
    "document.full": ("the document has all the pages it may have", "finish this document and begin another", False),
    "document.no_such_page": ("the document has no such page", "ask for one that was scanned", False),
    "document.empty": ("the document has no pages", "scan a page first", False),
    "document.too_large": (
        "the document does not fit into the size allowed",
        "scan fewer pages, or in black and white",
        False,
    ),
}


def refusal(code: str, detail: str = "") -> VisionError:
    """Return the error of that code."""
    message, advice, retry = _REFUSALS[code]
    return VisionError(code, f"{message}: {detail}" if detail else message, advice=advice, retry=retry)
