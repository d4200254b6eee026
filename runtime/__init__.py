"""Supervision, citizen session, services, journal, local API and command line of the terminal."""
