"""The suite of the broker connection runs against each broker."""

import pytest

from sim import broker, mosquitto
from sim.trust import Trust, make_trust
from tests.transport.line_rig import TERMINAL


@pytest.fixture
def trust(tmp_path) -> Trust:
    return make_trust(tmp_path / "trust", TERMINAL)


@pytest.fixture(params=[mosquitto, broker], ids=["mosquitto", "iotcore"])
def start_broker(request, trust):
    """Start this broker with the test's trust, on a port of its choice or the given one: gives (process, port)."""
    return lambda port=0: request.param.broker_process(trust.ca.parent, port)
