"""Waking up at a steady rate: absolute deadlines on the monotonic clock.

A loop that sleeps for a period after its work drifts by the duration of the work; one that sleeps
until the next point of a fixed grid does not.
"""

import ctypes
import errno
import os
import time

_TIMER_ABSTIME = 1
_NANO = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (('tv_sec', ctypes.c_long), ('tv_nsec', ctypes.c_long))


# CDLL, not PyDLL: the interpreter lock is released while the thread sleeps.
_libc = ctypes.CDLL(None, use_errno=True)
_clock_nanosleep = _libc.clock_nanosleep
_clock_nanosleep.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(_Timespec),
    ctypes.POINTER(_Timespec),
)


def sleep_until(deadline_ns: int) -> None:
    """Sleep until ``time.monotonic_ns()`` reaches ``deadline_ns``; return at once if it has passed."""
    until = _Timespec(deadline_ns // _NANO, deadline_ns % _NANO)
    while True:
        error = _clock_nanosleep(time.CLOCK_MONOTONIC, _TIMER_ABSTIME, ctypes.byref(until), None)
        if error == 0:
            return
        if error != errno.EINTR:  # a signal handler ran: go back to sleep
            raise OSError(error, os.strerror(error))


class Deadlines:
    """A grid of points in time, one ``period_s`` apart."""

    def __init__(self, period_s: float) -> None:
        """Start the grid now. Raises ``ValueError`` for a period that is not positive."""
        if period_s <= 0:
            raise ValueError(f'period_s is {period_s}; expected a positive number of seconds')
        self._period_ns = round(period_s * _NANO)
        self._next_ns = time.monotonic_ns() + self._period_ns

    def wait(self) -> float:
        """Sleep until the next point and return how late the wake-up was in s.

        Points that have passed already are skipped, not caught up with in a burst: nobody is helped
        by two control ticks at once. The lateness counts from the first point that was missed.
        """
        sleep_until(self._next_ns)
        late_ns = time.monotonic_ns() - self._next_ns
        self._next_ns += (1 + late_ns // self._period_ns) * self._period_ns
        return late_ns / _NANO
