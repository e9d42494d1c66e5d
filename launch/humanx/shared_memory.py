"""What killed ROS processes leave in shared memory, and its removal before a graph starts.

A process that was killed leaves its Fast DDS ports in ``/dev/shm``. With such leftovers about, everything in the
middleware of the driver's node was seen to stand still for a third of a second when a new process joined (a third of
the 1 s after which Fast DDS holds a port to be dead), long enough for the robot to be damped. Fast DDS brings a tool
that removes what nobody holds any more and leaves alone what a running process uses.
"""

import contextlib
import shutil
import subprocess


def clean_up() -> None:
    """Remove the leftovers, where the tool is installed; otherwise, or should it fail, everything stays as it is."""
    tool = shutil.which('fastdds')
    if tool is None:
        return
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run([tool, 'shm', 'clean'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
