"""Runs the installed daemon, whose loop SIGUSR1 blocks for good; the rest of its process goes on."""

import asyncio
import runpy
import signal
import threading
import time


def tick() -> None:
    while True:
        print("a thread goes on", flush=True)
        time.sleep(0.5)


def block() -> None:
    threading.Thread(target=tick, daemon=True).start()
    while True:
        time.sleep(600)


def main() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: asyncio.get_running_loop().call_soon_threadsafe(block))
    runpy.run_module("runtime", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
