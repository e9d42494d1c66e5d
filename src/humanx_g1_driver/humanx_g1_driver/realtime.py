"""What the operating system can do for a 1 kHz thread, and a sleep to absolute deadlines."""

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_CLOCK_MONOTONIC = 1
_TIMER_ABSTIME = 1
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_TIMERSLACK = 29
_EINTR = 4


class _Timespec(ctypes.Structure):
    _fields_ = [('tv_sec', ctypes.c_long), ('tv_nsec', ctypes.c_long)]


@dataclass(frozen=True)
class RealtimeReport:
    """What was granted; ``sentence`` says it for the log."""

    fifo: bool
    locked: bool
    sentence: str

    @property
    def realtime(self) -> bool:
        return self.fifo and self.locked


def ask_for_realtime(priority: int, lock_memory: bool = True) -> RealtimeReport:
    """Ask for SCHED_FIFO and locked memory for this process; threads made later inherit the scheduling.

    Priority 0 asks for nothing. Never fails: the report says what was not permitted and how to permit it.
    """
    # Without SCHED_FIFO the kernel may delay wake-ups by 50 us to batch them; ask it not to.
    _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    if priority <= 0:
        return RealtimeReport(False, False, 'real-time scheduling was not asked for (realtime_priority is 0).')
    missing = []
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        fifo = True
    except OSError as error:
        fifo = False
        missing.append(
            f'SCHED_FIFO is not permitted ({error.strerror}; raise rtprio in /etc/security/limits.conf '
            'or grant CAP_SYS_NICE)'
        )
    locked = False
    if lock_memory:
        locked = _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0
        if not locked:
            reason = os.strerror(ctypes.get_errno())
            missing.append(f'memory cannot be locked ({reason}; raise memlock in /etc/security/limits.conf)')
    if missing:
        return RealtimeReport(fifo, locked, 'Not fully real-time: ' + '; '.join(missing) + '.')
    return RealtimeReport(fifo, locked, f'SCHED_FIFO at priority {priority}' + (', memory locked.' if locked else '.'))


def bind_thread(cpu: int) -> str:
    """Bind the calling thread to one of the CPUs it may use, counted from 0 and around; negative: to none.

    Returns a sentence for the log. Two loops at 1 kHz that the kernel happens to run on one CPU can use up what it
    grants SCHED_FIFO there (95 %); it then holds up both for 50 ms.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if cpu < 0 or len(allowed) < 2:
        return 'Not bound to a CPU.'
    chosen = allowed[cpu % len(allowed)]
    os.sched_setaffinity(0, {chosen})
    return f'Bound to CPU {chosen}.'


def freeze_garbage() -> None:
    """Collect once, exempt everything that lives now, and collect no more: the loop makes no reference cycles."""
    gc.collect()
    gc.freeze()
    gc.disable()
    # Other threads of this process (there are few) give the interpreter back within 50 us instead of 5 ms.
    sys.setswitchinterval(5e-5)


def sleep_until(deadline_ns: int) -> None:
    """Sleep until an absolute time of the monotonic clock; return at once if it has passed."""
    spec = _spec
    spec.tv_sec, spec.tv_nsec = divmod(deadline_ns, 1_000_000_000)
    while _nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, _spec_ref, None) == _EINTR:
        pass


_spec = _Timespec()
_spec_ref = ctypes.byref(_spec)
_nanosleep = _libc.clock_nanosleep
_nanosleep.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


class Ticker:
    """Absolute deadlines, one period apart. A late cycle is followed at once; missed ones are not made up for."""

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self._deadline = time.monotonic_ns() + period_ns

    def wait(self) -> int:
        """Sleep until the next deadline; return the time of waking, ns."""
        sleep_until(self._deadline)
        now = time.monotonic_ns()
        self._deadline += self.period_ns
        if now > self._deadline:
            # More than a period late: a burst of cycles to catch up would be worse than a phase shift.
            self._deadline = now + self.period_ns
        return now


class ClockWatch:
    """Notices that the wall clock was set back, by comparing it with the monotonic one."""

    TOLERANCE_S = 0.01  # NTP slews, it does not step, by less than this

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._lowest, _ = self._offset()

    def _offset(self) -> tuple[float, float]:
        """Return bounds of wall minus monotonic time: this thread may be held up between reading the clocks."""
        before = self._monotonic()
        wall = self._wall()
        return wall - self._monotonic(), wall - before

    def went_back(self) -> float:
        """Return by how many seconds the wall clock was set back since the last call, 0 if it was not."""
        lowest, highest = self._offset()
        step, self._lowest = self._lowest - highest, lowest
        return step if step > self.TOLERANCE_S else 0.0
