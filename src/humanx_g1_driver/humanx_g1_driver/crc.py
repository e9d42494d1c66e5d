"""The checksum of Unitree's low-level messages, from zlib's.

It is CRC-32 with polynomial 0x04C11DB7 and initial value 0xFFFFFFFF, neither reflected nor inverted at the end, over
little-endian 32-bit words, each taken from its most significant bit. zlib computes the reflected one, in C: with the
words' bytes in big-endian order and the bits of every byte reversed on the way in and on the way out, they agree.
"""

import zlib

import numpy as np

_REVERSED = bytes(int(f'{byte:08b}'[::-1], 2) for byte in range(256))


def crc32_words(words: np.ndarray) -> int:
    """Return the checksum of a one-dimensional array of 32-bit words (any byte order; the values count)."""
    big_endian = words.astype('>u4').tobytes()
    return reflected_to_plain(zlib.crc32(big_endian.translate(_REVERSED)))


class WordsCrc:
    """The same over a buffer that is reused: no allocation but the two byte strings zlib reads."""

    def __init__(self, count: int) -> None:
        self.words = np.zeros(count, dtype='>u4')  # assign native words: numpy swaps the bytes

    def value(self) -> int:
        return reflected_to_plain(zlib.crc32(self.words.tobytes().translate(_REVERSED)))


def reflected_to_plain(value: int) -> int:
    """Undo zlib's final inversion and reverse the 32 bits."""
    value ^= 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, 'little').translate(_REVERSED), 'big')
