"""The grid of deadlines: no drift, no bursts."""

import time

import pytest

from humanx_description.deadline import Deadlines, sleep_until


def test_sleep_until_does_not_return_early():
    deadline = time.monotonic_ns() + 5_000_000
    sleep_until(deadline)
    assert time.monotonic_ns() >= deadline
    sleep_until(0)  # long past: returns at once


def test_work_in_the_loop_does_not_drift():
    deadlines = Deadlines(0.01)
    start = time.monotonic()
    for _ in range(20):
        deadlines.wait()
        time.sleep(0.004)
    # 20 periods and one rest of work; a loop that sleeps after its work would take 0.28 s.
    assert 0.199 < time.monotonic() - start < 0.27


def test_missed_points_are_skipped_and_reported():
    deadlines = Deadlines(0.01)
    time.sleep(0.055)
    late = deadlines.wait()
    assert late >= 0.044
    start = time.monotonic()
    deadlines.wait()
    assert time.monotonic() - start <= 0.05
    before = time.monotonic_ns()
    deadlines.wait()
    assert time.monotonic_ns() - before > 1_000_000  # no burst


def test_a_period_must_be_positive():
    with pytest.raises(ValueError, match='period_s'):
        Deadlines(0)
