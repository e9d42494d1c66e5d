"""Ctrl-C and processes that are still starting.

A program that is interrupted while it imports its libraries prints a traceback and ends with a status that says
"failed", though it was only told to stop. Who starts a program calls :func:`hold` or :func:`ignore` in the new process;
a program that was held calls :func:`release` as soon as it can stop cleanly, and is then told at once.
"""

import signal


def hold() -> None:
    """Let SIGINT wait in this process, and in what it starts; SIGTERM still ends it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def release() -> None:
    """Take SIGINT again, and one that waited now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def ignore() -> None:
    """Leave stopping to the process that starts this one: neither SIGINT nor SIGTERM to its group does anything."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class StopRequest:
    """Set by SIGINT and SIGTERM from its making on; call it to ask.

    A plain flag, not a :class:`threading.Event`: a signal's handler runs between two instructions of the main thread,
    and where those lie inside ``Event.wait`` the handler's ``set`` waits for a lock that the same thread holds, for
    ever.
    """

    def __init__(self) -> None:
        """Take both signals; one that was held is noticed at once."""
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        release()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._asked = True

    def __call__(self) -> bool:
        """Return whether this process has been told to stop."""
        return self._asked
