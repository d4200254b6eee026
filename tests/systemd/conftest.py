"""The board that the tests of a file share."""

import pytest

from tests.systemd.board import Parts, booted, install
from tests.systemd.needs import missing
from tests.systemd.tree import build_photo_library, build_wheel, kept_tree


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    if lacks := missing():
        pytest.fail("a board cannot boot here; missing: " + "; ".join(lacks), pytrace=False)
    output = tmp_path_factory.mktemp("parts")
    with kept_tree() as tree:
        yield Parts(tree, build_wheel(output), build_photo_library(output))


@pytest.fixture(scope="module")
def shared_board(parts, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("board")
    with booted(parts, scratch / "console") as board:
        install(board, parts, scratch)
        board.run("systemctl", "enable", "govterm.service")
        yield board


@pytest.fixture
def board(shared_board):
    """The board with a daemon that has just been started, serving and warm."""
    shared_board.start()
    return shared_board


@pytest.fixture
def serving(shared_board):
    """The board with its daemon serving and warm, since whenever."""
    if shared_board.show("ActiveState") != "active" or shared_board.components()["vision"] != "online":
        shared_board.start()
    return shared_board
