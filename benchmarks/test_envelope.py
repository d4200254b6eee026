"""Seal and open beside raw SM4-GCM of `cryptography` and beside gmssl: same sizes, one run, interleaved.

Goals: pack and seal 256 B in 40 µs, at least 0.9 of the raw cipher's speed from 64 KiB up.
"""

import os
import statistics
import time
from collections.abc import Callable

import gmssl.sm4
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.conftest import Figures, within
from transport import wire
from transport.envelope import Opener, Sealer, read
from transport.keys import MemoryKey

KEY, KEY_ID = os.urandom(16), os.urandom(8)
GOAL_MICROSECONDS = 40.0
GOAL_OF_RAW = 0.9
GOAL_FROM_BYTES = 65_536
ROUNDS = {256: 2_000, 1_024: 2_000, 65_536: 400, 983_040: 60}
"""Sizes in bytes (the largest is what one message may carry) and how often each is tried."""

Work = Callable[[], object]


def _body(size: int) -> tuple[Callable[[], bytes], bytes]:
    """Return what packs a call of about `size` bytes, and the packed bytes."""
    body, key = os.urandom(size), os.urandom(16)

    def pack() -> bytes:
        return wire.encode(wire.Call(key, "certificate.request", 1, body))

    return pack, pack()


def ours(size: int) -> tuple[Work, Callable[[], Work]]:
    """Return what packs and seals, and what makes ready to open an envelope once."""
    sealer = Sealer(MemoryKey(bytearray(KEY)), KEY_ID, "GT-0001", "up")
    opener = Opener(MemoryKey(bytearray(KEY)), KEY_ID, "GT-0001", "up")
    pack, _ = _body(size)

    def opening() -> Work:
        sealed = sealer.seal("call", pack())
        return lambda: wire.decode(opener.open("call", read(sealed)), wire.Call)

    return lambda: sealer.seal("call", pack()), opening


def raw(size: int) -> tuple[Work, Callable[[], Work]]:
    """The same bytes through the library's cipher alone."""
    _, plaintext = _body(size)

    def seal(nonce: bytes) -> bytes:
        encryptor = Cipher(algorithms.SM4(KEY), modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(b"place")
        return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag

    def opening() -> Work:
        nonce = os.urandom(12)
        sealed = seal(nonce)

        def unseal() -> bytes:
            decryptor = Cipher(algorithms.SM4(KEY), modes.GCM(nonce, sealed[-16:])).decryptor()
            decryptor.authenticate_additional_data(b"place")
            return decryptor.update(memoryview(sealed)[:-16]) + decryptor.finalize()

        return unseal

    return lambda: seal(os.urandom(12)), opening


def by_gmssl(size: int) -> Work:
    """The package that the owner named: SM4-CBC, since it has no GCM."""
    cipher = gmssl.sm4.CryptSM4()
    cipher.set_key(KEY, gmssl.sm4.SM4_ENCRYPT)
    plaintext = os.urandom(size)
    return lambda: cipher.crypt_cbc(bytes(16), plaintext)


def microseconds(work: Work) -> float:
    started = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - started) / 1_000


@pytest.mark.parametrize("size", ROUNDS)
def test_seal_and_open_beside_the_raw_cipher(figures: Figures, size: int) -> None:
    """Interleaved, so that the machine's noise falls on both."""
    (our_seal, our_opening), (raw_seal, raw_opening) = ours(size), raw(size)
    seals = [(microseconds(our_seal), microseconds(raw_seal)) for _ in range(ROUNDS[size])]
    opens = [(microseconds(our_opening()), microseconds(raw_opening())) for _ in range(ROUNDS[size])]
    beside_gmssl = statistics.median(microseconds(by_gmssl(min(size, 4_096))) for _ in range(3))
    for what, pairs in (("pack + seal", seals), ("open + read", opens)):
        our_median, raw_median = (statistics.median(column) for column in zip(*pairs, strict=True))
        of_raw = raw_median / our_median
        verdict = f"{of_raw:.2f} of raw"
        if size >= GOAL_FROM_BYTES:
            verdict += f"; goal {GOAL_OF_RAW}: {within(GOAL_OF_RAW, of_raw)}"
        elif what == "pack + seal" and size == min(ROUNDS):
            verdict += f"; goal {GOAL_MICROSECONDS:.0f} µs: {within(our_median, GOAL_MICROSECONDS)}"
        figures.add(
            f"{what} {size:,} B",
            f"p50 {our_median:,.1f} µs",
            beside=f"raw SM4-GCM {raw_median:,.1f} µs; gmssl SM4-CBC {beside_gmssl * size / min(size, 4_096):,.0f} µs",
            verdict=verdict,
        )
        assert our_median > 0
