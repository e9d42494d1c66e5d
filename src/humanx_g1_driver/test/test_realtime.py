"""Binding a loop to a CPU."""

import os
import threading

import pytest

from humanx_g1_driver.realtime import bind_thread


def bound(cpu: int) -> tuple[str, set[int]]:
    """Bind a thread of its own; return the sentence and the CPUs that it may use then."""
    result: list = []
    thread = threading.Thread(target=lambda: result.extend([bind_thread(cpu), os.sched_getaffinity(0)]))
    thread.start()
    thread.join()
    return result[0], result[1]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='one CPU only')
def test_only_the_calling_thread_is_bound_and_the_number_goes_around():
    allowed = sorted(os.sched_getaffinity(0))
    assert bound(0) == (f'Bound to CPU {allowed[0]}.', {allowed[0]})
    assert bound(len(allowed) + 1) == (f'Bound to CPU {allowed[1]}.', {allowed[1]})
    assert sorted(os.sched_getaffinity(0)) == allowed


def test_minus_one_binds_to_none():
    assert bound(-1) == ('Not bound to a CPU.', os.sched_getaffinity(0))
