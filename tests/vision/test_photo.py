"""The card photo's decoders: a vendor's library in C, compiled here to the documented signature, and the rig's."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from sim.assets import Assets, chip_photo, head_and_shoulders
from vision.config import Vision
from vision.errors import VisionError
from vision.photo import open_decoder

SOURCE = r"""
#include <string.h>

/* Paints each row in its own number, bottom row first, blue taken from the block. */
int unpack(const unsigned char *block, unsigned char *bgr, int size)
{
    if (size != 38556 || memcmp(block, "WLf", 4) != 0)
        return -1;
    for (int row = 0; row < 126; row++)
        for (int column = 0; column < 102; column++) {
            unsigned char *pixel = bgr + (row * 102 + column) * 3;
            pixel[0] = block[4];
            pixel[1] = (unsigned char)(125 - row);
            pixel[2] = (unsigned char)column;
        }
    return 1;
}

int overrun(const unsigned char *block, unsigned char *bgr, int size)
{
    memset(bgr, block[4], (size_t)size + 306);
    return 1;
}
"""

BLOCK = b"WLf\0" + bytes([77]) * 1020


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("vendor")
    (directory / "wlt.c").write_text(SOURCE)
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", "libwlt.so", "wlt.c"]
    subprocess.run(command, cwd=directory, check=True, timeout=60)
    return directory / "libwlt.so"


def settings(library: Path | None, symbol: str = "unpack") -> Vision:
    return Vision(camera="face", photo_library=str(library) if library else None, photo_symbol=symbol)


RIG = Vision(camera="face", photo_decoder="rig")


def code_of(caught: pytest.ExceptionInfo[VisionError]) -> tuple[str, bool]:
    return caught.value.code, caught.value.retry


def test_the_library_s_picture_comes_out_top_row_first(library: Path):
    """Decoded pixels are bottom-up BGR (protocols 1.7)."""
    picture = open_decoder(settings(library), rig=False)(BLOCK)
    assert picture.shape == (126, 102, 3)
    assert picture.dtype == np.uint8
    assert (picture[:, :, 0] == 77).all()
    assert (picture[:, :, 1] == np.arange(126)[:, None]).all()
    assert (picture[:, :, 2] == np.arange(102)).all()


def test_a_block_that_the_library_refuses(library: Path):
    decode = open_decoder(settings(library), rig=False)
    for block in (bytes(1024), BLOCK[:1023], BLOCK + b"\0", b""):
        with pytest.raises(VisionError) as caught:
            decode(block)
        assert code_of(caught) == ("photo.undecodable", True)


def test_a_library_that_writes_too_much_is_not_believed(library: Path):
    with pytest.raises(VisionError, match="more than a picture") as caught:
        open_decoder(settings(library, "overrun"), rig=False)(BLOCK)
    assert code_of(caught) == ("photo.undecodable", True)


def test_no_library_no_decoder(library: Path, tmp_path: Path):
    (tmp_path / "text.so").write_text("no library")
    for broken in (settings(None), settings(tmp_path / "text.so"), settings(tmp_path / "no"), settings(library, "no")):
        with pytest.raises(VisionError) as caught:
            open_decoder(broken, rig=True)
        assert code_of(caught) == ("photo.decoder_missing", False)


def test_the_rig_s_decoder_is_refused_on_a_real_terminal():
    with pytest.raises(VisionError) as caught:
        open_decoder(RIG, rig=False)
    assert code_of(caught) == ("photo.decoder_not_allowed", False)


def test_the_rig_s_decoder_reads_the_rig_s_card(assets: Assets):
    decode = open_decoder(RIG, rig=True)
    picture = decode(chip_photo(assets, "eileen_collins"))
    difference = np.abs(picture.astype(int) - head_and_shoulders(assets, "eileen_collins"))
    assert difference.mean() < 8
    with pytest.raises(VisionError) as caught:
        decode(BLOCK)
    assert code_of(caught) == ("photo.undecodable", True)


def test_a_rig_that_is_not_installed_has_no_decoder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    with pytest.raises(VisionError, match="not installed") as caught:
        open_decoder(RIG, rig=True)
    assert code_of(caught) == ("photo.decoder_missing", False)
