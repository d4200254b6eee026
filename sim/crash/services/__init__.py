"""The scripted citizens of every service, and what must hold for each whenever the daemon stopped."""

from sim.crash.service import Service
from sim.crash.services import applications, certificate, hotline, identity, payment, sharing

_ALL = (
    identity.SERVICE,
    certificate.SERVICE,
    applications.SERVICE,
    *payment.SERVICES,
    hotline.SERVICE,
    sharing.SERVICE,
)

SERVICES: dict[str, Service] = {service.name: service for service in _ALL}
