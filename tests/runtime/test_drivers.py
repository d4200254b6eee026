"""Drivers of other distributions, found by their entry points (H12)."""

import sys

import pytest

from devices.printer.driver import ReceiptPrinter
from runtime import drivers
from runtime.config import ConfigError, check_machine, parse
from runtime.drivers import DriverError
from runtime.reference import EXAMPLE

MODULE = """
class Reader:
    kind = "cardreader"

    def __init__(self, settings, open_link, on_status):
        self.settings = settings


class Lamp:
    kind = "lamp"
"""
NAMES = """[govterm.drivers]
acme = acme_reader:Reader
lamp = acme_reader:Lamp
absent = acme_reader:Nothing
"""


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A distribution as pip installs it."""
    (tmp_path / "acme_reader.py").write_text(MODULE)
    about = tmp_path / "acme_reader-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-reader\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(NAMES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("acme_reader", None)


def with_reader(driver: str) -> bytes:
    return f'{EXAMPLE}\n[cardreader]\nport = "/dev/serial/by-id/usb-Acme"\ndriver = "{driver}"\n'.encode()


@pytest.mark.parametrize("kind", drivers.KINDS)
def test_every_kind_has_a_built_in_driver(kind):
    assert callable(drivers.load(kind, None))


def test_the_built_in_driver_is_the_default():
    assert drivers.load("printer", None) is ReceiptPrinter


def test_another_distribution_brings_a_driver(acme):
    section = parse(with_reader("acme")).devices["cardreader"]
    found = drivers.load("cardreader", section.driver)
    assert found.__module__ == "acme_reader"
    assert {"acme", "lamp", "absent"} <= set(drivers.installed())


def test_an_unknown_name_is_a_mistake_that_lists_what_is_installed(acme):
    with pytest.raises(ConfigError) as refused:
        parse(with_reader("acne"))
    (mistake,) = refused.value.mistakes
    assert mistake.key == "cardreader.driver"
    assert "acme" in mistake.expected
    assert mistake.found == "'acne'"
    with pytest.raises(DriverError):
        drivers.load("cardreader", "acne")


@pytest.mark.parametrize(("name", "why"), [("lamp", "of the kind cardreader"), ("absent", "AttributeError")])
def test_one_that_does_not_fit_is_a_mistake_on_this_machine(acme, name, why):
    mistakes = [one for one in check_machine(parse(with_reader(name))) if one.key == "cardreader.driver"]
    assert [why in one.expected for one in mistakes] == [True]
