"""`Inflater`: decompresses an upstream's response in portions.

Rules of this file: pure. A few kilobytes can become gigabytes; in portions the reader can count
them, and stop.
"""

import zlib
from collections.abc import Iterator

_PORTION = 65_536  # bytes
_CONTAINERS = 47  # zlib's name for gzip or zlib, whichever it is


class Inflater:
    """The bytes of a response's body, as they are before they were compressed."""

    def __init__(self, content_encoding: str) -> None:
        """Take the header's value; ``""`` for none.

        Raises:
            ValueError: it is another one than gzip, deflate or identity.
        """
        kind = content_encoding.strip().lower()
        if kind not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise ValueError("the encoding is not known")
        is_plain = kind in ("", "identity")
        self._inflate = None if is_plain else zlib.decompressobj(_CONTAINERS)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what more of the body says, in portions of 64 KiB.

        Raises:
            ValueError: it is not what the header says.
        """
        if self._inflate is None:
            yield data
            return
        while data:
            try:
                yield self._inflate.decompress(data, _PORTION)
            except zlib.error:
                raise ValueError("the body is not compressed as its header says") from None
            data = self._inflate.unconsumed_tail
