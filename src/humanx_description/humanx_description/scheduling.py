"""Real-time scheduling for a node whose loop must not wait for the machine's other work."""

import os


def raise_threads(priority: int) -> str:
    """Put every thread of this process that runs now under SCHED_FIFO at ``priority``; 0 does nothing.

    Threads made later inherit it from the one that makes them. Returns a sentence for the log where it is not
    permitted, else an empty string: a node works without it, on a machine that has time for it.
    """
    if priority <= 0:
        return ''
    for thread in os.listdir('/proc/self/task'):
        try:
            os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(priority))
        except ProcessLookupError:  # it has just ended
            continue
        except OSError as error:
            return (
                f'Runs without SCHED_FIFO ({error.strerror}): raise rtprio in '
                '/etc/security/limits.conf or grant CAP_SYS_NICE.'
            )
    return ''
