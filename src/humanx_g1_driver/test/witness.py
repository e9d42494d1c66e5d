"""A witness of the machine itself: does it let the most important thread of each core run when it should?

One thread per core, pinned, at SCHED_FIFO 90, wakes every 2 ms. When even these are held up, nothing can be said about
reaction times: a test that failed meanwhile says nothing and is done again. Any line on standard input is answered
by the longest hold-up (s) since the line before.
"""

import json
import os
import sys
import threading
import time

from humanx_g1_driver.realtime import ask_for_realtime

PERIOD_S = 0.002


def watch(core: int, worst: list[float]) -> None:
    os.sched_setaffinity(0, {core})
    last = time.monotonic()
    while True:
        time.sleep(PERIOD_S)
        now = time.monotonic()
        worst[core] = max(worst[core], now - last - PERIOD_S)
        last = now


def main() -> None:
    report = ask_for_realtime(90)
    sys.setswitchinterval(1e-4)
    cores = sorted(os.sched_getaffinity(0))
    worst = [0.0] * (max(cores) + 1)
    for core in cores:
        threading.Thread(target=watch, args=(core, worst), daemon=True).start()
    print(json.dumps({'ready': True, 'realtime': report.fifo}), flush=True)
    for _ in sys.stdin:
        seen = max(worst)
        worst[:] = [0.0] * len(worst)
        print(json.dumps({'worst': seen}), flush=True)


if __name__ == '__main__':
    main()
