"""Tests of real links end the thread pool in which serialx opens and closes ports."""

import asyncio
from collections.abc import AsyncIterator

import pytest


@pytest.fixture(autouse=True)
async def executor_ends() -> AsyncIterator[None]:
    """Shut down the event loop's default thread pool after the test, as asyncio.run does."""
    yield
    await asyncio.get_running_loop().shutdown_default_executor()
