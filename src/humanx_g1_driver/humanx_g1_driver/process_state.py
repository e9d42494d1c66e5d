"""Whether another process has been stopped (SIGSTOP, a debugger), as the kernel says."""

import os


class ProcessState:
    """Looks at one process; a look costs a few microseconds."""

    def __init__(self, pid: int) -> None:
        """Raises ``OSError`` if there is no such process."""
        # Read again from its start, an open file of /proc is made anew; it belongs to this process for ever, whoever
        # gets its number later.
        self._file = os.open(f'/proc/{pid}/stat', os.O_RDONLY | os.O_CLOEXEC)

    def stopped(self) -> bool:
        """Return whether it is stopped now; a process that is gone is not."""
        try:
            text = os.pread(self._file, 512, 0)
        except ProcessLookupError:
            return False
        # pid (name) state ...; a name may hold anything, brackets too.
        end = text.rfind(b')')
        return text[end + 2 : end + 3] in (b'T', b't')

    def close(self) -> None:
        """Look no more."""
        os.close(self._file)
