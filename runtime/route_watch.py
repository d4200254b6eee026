"""Which ways out of this machine there may be (H8): never two networks, and none but those that are stated.

A change of gateway or of lease sets the new route before it takes the old one away: a way is told only when it is
still there once the routes have settled.
"""

from collections.abc import Callable, Collection
from functools import partial

from runtime.settling import Settling
from transport.routes import DefaultRoute

SETTLE_SECONDS = 3.0
"""What one network may take to become another."""
_LOOPBACK = "lo"
"""A route by it leaves nowhere."""


class RouteWatch:
    """Tells what is wrong with the default routes, by code and subject: the interface, or `network` for all of them."""

    def __init__(
        self,
        uplinks: Collection[str],
        settling: Settling,
        *,
        on_found: Callable[[str, str], None],
        on_over: Callable[[str, str], None],
    ) -> None:
        """`uplinks` are the interfaces that may have a default route; with none stated there may be one way out."""
        self._uplinks = frozenset(uplinks)
        self._settling = settling
        self._on_found = on_found
        self._on_over = on_over
        self._wrong: frozenset[tuple[str, str]] = frozenset()
        self._told: set[tuple[str, str]] = set()

    def heard(self, routes: frozenset[DefaultRoute]) -> None:
        """Look at all the default routes that there are now; what is wrong no more is over at once."""
        self._wrong = self._judge({route for route in routes if route.interface != _LOOPBACK})
        for gone in sorted(self._told - self._wrong):
            self._told.remove(gone)
            self._on_over(*gone)
        for wrong in sorted(self._wrong - self._told):
            self._settling.begin(wrong, SETTLE_SECONDS, partial(self._settled, wrong))

    def _judge(self, ways: set[DefaultRoute]) -> frozenset[tuple[str, str]]:
        """Where uplinks are stated each way leaves by one of them; else there is one interface, with one IPv4 gateway.

        Routers of IPv6 are told by the network, and may be several.
        """
        interfaces = {route.interface for route in ways}
        if self._uplinks:
            return frozenset(("network.unknown_uplink", one) for one in interfaces - self._uplinks)
        if len(interfaces) > 1 or sum(route.version == 4 for route in ways) > 1:
            return frozenset({("network.second_route", "network")})
        return frozenset()

    def _settled(self, wrong: tuple[str, str]) -> None:
        if wrong in self._wrong:
            self._told.add(wrong)
            self._on_found(*wrong)
