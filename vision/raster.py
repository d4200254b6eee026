"""Render a PDF for the print head: every page in black and white at the head's width."""

import numpy as np
import numpy.typing as npt
import pypdfium2

from vision.errors import VisionError
from vision.verifier import Raster

MAXIMUM_PDF_BYTES = 8 * 1024 * 1024
MAXIMUM_HEIGHT_DOTS = 8192
"""About a metre of paper at 203 dpi."""

_INK = 160
"""Grey levels below this print black: thin strokes survive, anti-aliased edges do not swell."""

_PASSWORD_ERRORS = (pypdfium2.raw.FPDF_ERR_PASSWORD, pypdfium2.raw.FPDF_ERR_SECURITY)


def rasterise(pdf: bytes, width_dots: int, max_pages: int) -> list[Raster]:
    """Return each page as a 1-bit picture, `width_dots` across (a multiple of 8) and as high as its proportions ask.

    VisionError `pdf.too_large`, `pdf.damaged`, `pdf.encrypted`, `pdf.too_many_pages`, `pdf.page_too_long`.
    """
    if len(pdf) > MAXIMUM_PDF_BYTES:
        raise _refused("pdf.too_large", f"{len(pdf)} bytes; the limit is {MAXIMUM_PDF_BYTES}")
    try:
        document = pypdfium2.PdfDocument(pdf)
    except pypdfium2.PdfiumError as error:
        code = "pdf.encrypted" if error.err_code in _PASSWORD_ERRORS else "pdf.damaged"
        raise _refused(code, str(error)) from error
    try:
        if not 1 <= len(document) <= max_pages:
            raise _refused("pdf.too_many_pages", f"{len(document)} pages; the limit is {max_pages}")
        return [_rasterise_page(document, number, width_dots) for number in range(len(document))]
    except pypdfium2.PdfiumError as error:
        raise _refused("pdf.damaged", str(error)) from error
    finally:
        document.close()


def _rasterise_page(document: pypdfium2.PdfDocument, number: int, width_dots: int) -> Raster:
    page = document[number]
    width, height = page.get_size()
    if height * width_dots > MAXIMUM_HEIGHT_DOTS * width:
        raise _refused("pdf.page_too_long", f"page {number + 1} measures {width:.0f} x {height:.0f} points")
    bitmap = page.render(scale=width_dots / width, grayscale=True)
    grey: npt.NDArray[np.uint8] = bitmap.to_numpy()
    rows = np.packbits(grey[:, :width_dots] < _INK, axis=1)
    raster = Raster(width_dots, len(rows), rows.tobytes())
    for array in (grey, rows):
        array.fill(0)
    bitmap.close()
    page.close()
    return raster


def _refused(code: str, detail: str) -> VisionError:
    advice = "nothing can be printed from this PDF; tell the platform that issued it"
    return VisionError(code, f"the PDF cannot be printed: {detail}", advice=advice, retry=False)
