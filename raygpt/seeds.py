"""Seeds derived from seeds."""

import hashlib


def derived_seed(*parts: int, bits: int = 63) -> int:
    """A seed made of whole numbers: equal in every process, and independent for other numbers."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - bits)
