"""What a bag tells of the graph's health during a trial."""

from pathlib import Path

import numpy as np

from humanx_g1_driver.bag_read import messages, open_bag

_RUN = 3  # humanx_msgs/DriverStatus


def driver_timing(path: Path) -> dict[str, float]:
    """Return the driver's timing while it was in RUN, from its status messages; empty if it never was.

    ``misses`` of ``cycles`` periods over 2 ms, the worst period and the worst of the seconds' 99th percentiles of its
    error (s), and of the delay from a robot state's arrival to the targets that answer it (s).
    """
    with open_bag(path) as reader:
        statuses = [status for _, status in messages(reader, '/humanx/driver_status') if status.state == _RUN]
    if not statuses:
        return {}
    first, last = statuses[0], statuses[-1]
    return {
        'cycles': int(last.cycles - first.cycles),
        'misses': int(last.misses - first.misses),
        'period_max': float(max(s.period_max for s in statuses)),
        'period_error_p99': float(max(s.period_error_p99 for s in statuses)),
        'response_p99': float(np.max([s.response_p99 for s in statuses])),
    }
