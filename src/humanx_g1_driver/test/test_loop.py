"""The control loop's cycle without wire and clock, its link, its statistics, and what it asks of the system."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from humanx_description import robot
from humanx_g1_driver import link as wire_link
from humanx_g1_driver.faults import Action, Fault, Mode
from humanx_g1_driver.limits import SafetyLimits
from humanx_g1_driver.link import Kind, Link, LinkClosed
from humanx_g1_driver.loop import QUIT_SECONDS, ControlLoop
from humanx_g1_driver.observed import ObservedStates, ResponseTimes
from humanx_g1_driver.period_stats import PeriodStats
from humanx_g1_driver.process_state import ProcessState
from humanx_g1_driver.publishers import PublisherCounts
from humanx_g1_driver.realtime import ClockWatch, Ticker, ask_for_realtime
from humanx_g1_driver.safety import SafetyMachine
from humanx_g1_driver.stand import StandController
from humanx_g1_driver.wire import LowStateBuffer


class Wire:
    """A transport in memory: not to replace the wire, which has tests of its own, but to run without its time."""

    def __init__(self) -> None:
        self.state = LowStateBuffer()
        self.state.quaternion[0] = 1.0
        self.state.q[:29] = robot.DEFAULT_JOINT_POS
        self.state.mode_machine = 9
        self.silent = False
        self.others: list[int] = []
        self.foreign_heard = False
        self.sent: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.error: Exception | None = None

    def poll_state(self, state: LowStateBuffer) -> bool:
        if self.error:
            raise self.error
        if self.silent:
            return False
        self.state.tick += 1
        return state.load(bytes(self.state.seal()))

    def send_command(self, command) -> None:
        self.sent.append((command.mode_machine, command.kp[:29].copy(), command.kd[:29].copy()))

    def foreign_writers(self) -> list[int]:
        return self.others

    def foreign_command_heard(self) -> bool:
        return self.foreign_heard

    def close(self) -> None:
        pass


class Bench:
    def __init__(self, **options) -> None:
        self.wire = Wire()
        self.ros, theirs = Link.pair()
        self.machine = SafetyMachine(SafetyLimits(stand_seconds=0.2), StandController())
        self.loop = ControlLoop(self.machine, self.wire, Link(theirs), **options)
        self.now = time.monotonic()
        self.loop._ros_at = self.now
        self.alive = True
        self.packets: list[np.void] = []

    def cycles(self, count: int) -> None:
        for k in range(count):
            self.now += 0.001
            if self.alive and k % 10 == 0:
                self.ros.send(wire_link.packet(Kind.HEARTBEAT))
            self.loop.cycle(self.now)
            while self.alive and (packet := self.ros.receive()) is not None:
                self.packets.append(packet)

    def ask(self, action: Action, late: float = 0.0) -> np.void:
        packet = wire_link.packet(Kind.REQUEST)
        packet['id'], packet['action'], packet['asked_at'] = 7, action, self.now - late
        assert self.ros.send(packet)
        self.cycles(1)
        return [p for p in self.packets if p['kind'] == Kind.ANSWER][-1]

    def stand(self) -> None:
        self.cycles(5)
        assert self.ask(Action.STAND)['accepted']
        self.cycles(250)
        assert self.machine.mode is Mode.STAND

    def status(self) -> np.void:
        return [p for p in self.packets if p['kind'] == Kind.STATUS][-1]


def test_nothing_is_sent_before_the_robot_is_heard():
    bench = Bench()
    bench.wire.silent = True
    bench.cycles(50)
    assert bench.wire.sent == []
    bench.wire.silent = False
    bench.cycles(3)
    assert len(bench.wire.sent) == 3


def test_one_command_every_cycle_with_the_machine_type_echoed():
    bench = Bench()
    bench.stand()
    before = len(bench.wire.sent)
    bench.cycles(100)
    assert len(bench.wire.sent) == before + 100
    assert all(machine == 9 for machine, _, _ in bench.wire.sent)


def test_an_error_in_the_cycle_is_a_fault_and_damping_is_sent_in_the_same_cycle(capfd):
    bench = Bench()
    bench.stand()
    bench.wire.error = RuntimeError('the wire broke')
    before = len(bench.wire.sent)
    bench.cycles(1)
    assert len(bench.wire.sent) == before + 1
    _, kp, kd = bench.wire.sent[-1]
    assert (kp == 0).all()
    assert (kd == 5).all()
    assert bench.machine.fault is Fault.INTERNAL
    assert 'the wire broke' in bench.machine.reason
    bench.cycles(10)
    assert capfd.readouterr().err.count('RuntimeError') == 1, 'told once, not a thousand times a second'


def test_an_error_of_the_machine_itself_damps(monkeypatch, capfd):
    bench = Bench()
    bench.stand()

    def broken(*_):
        raise ZeroDivisionError('a bug')

    monkeypatch.setattr(bench.machine._stand, 'command', broken)
    before = len(bench.wire.sent)
    bench.cycles(1)
    assert len(bench.wire.sent) == before + 1
    assert (bench.wire.sent[-1][1] == 0).all()
    assert (bench.wire.sent[-1][2] == 5).all()
    assert bench.machine.fault is Fault.INTERNAL
    capfd.readouterr()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_no_number_that_is_not_finite_is_ever_sent(value):
    bench = Bench()
    bench.stand()
    bench.wire.state.q[3] = value
    bench.cycles(5)
    assert bench.machine.fault is Fault.STATE_INVALID
    assert (bench.wire.sent[-1][2] == 5).all()
    assert np.isfinite(bench.loop._command.q).all()


def test_a_command_that_is_not_finite_becomes_damping(monkeypatch, capfd):
    bench = Bench()
    bench.stand()
    step = bench.machine.step

    def poisoned(now):
        out = step(now)
        out.tau[7] = float('nan')
        return out

    monkeypatch.setattr(bench.machine, 'step', poisoned)
    bench.cycles(1)
    assert np.isfinite(bench.loop._command.tau).all()
    assert (bench.wire.sent[-1][1] == 0).all()
    assert bench.machine.fault is Fault.INTERNAL
    capfd.readouterr()


def test_a_wire_that_refuses_a_command_does_not_end_the_loop(monkeypatch, capfd):
    bench = Bench()
    bench.stand()

    def refuse(_):
        raise OSError('no buffer space')

    monkeypatch.setattr(bench.wire, 'send_command', refuse)
    bench.cycles(3)
    assert bench.machine.fault is Fault.INTERNAL
    assert 'no buffer space' in bench.machine.reason
    monkeypatch.undo()
    bench.cycles(1)
    assert (bench.wire.sent[-1][2] == 5).all()
    capfd.readouterr()


def test_the_ros_side_that_falls_silent_or_dies():
    bench = Bench(orphan_seconds=0.5)
    bench.stand()
    bench.alive = False
    bench.cycles(200)
    assert bench.machine.fault is Fault.NONE, 'the middleware holds it up now and then'
    bench.cycles(60)
    assert bench.machine.fault is Fault.INTERNAL
    assert 'silent' in bench.machine.reason
    assert bench.loop._quit_at == math.inf, 'silent is not dead'
    bench.ros.close()
    bench.cycles(10)
    assert (bench.wire.sent[-1][2] == 5).all()
    bench.cycles(510)
    assert bench.loop._quit_at <= bench.now


def test_a_ros_side_that_is_stopped_is_noticed_within_ten_milliseconds():
    process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    state = ProcessState(process.pid)
    try:
        bench = Bench(ros_side=state)
        bench.stand()
        assert bench.machine.fault is Fault.NONE
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        bench.cycles(10)
        assert bench.machine.fault is Fault.INTERNAL
        assert 'has been stopped' in bench.machine.reason
        assert (bench.wire.sent[-1][2] == 5).all()
        process.send_signal(signal.SIGCONT)
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
        assert not state.stopped()
    finally:
        process.kill()
        process.wait()
    assert not state.stopped(), 'gone is not stopped: the link tells of that'
    state.close()


def test_a_death_is_noticed_at_once():
    bench = Bench()
    bench.stand()
    bench.alive = False
    bench.ros.close()
    bench.cycles(1)
    assert bench.machine.mode is Mode.DAMP
    assert 'died' in bench.machine.reason


def test_a_call_that_waited_is_too_late_to_start_but_not_to_stop():
    bench = Bench()
    bench.cycles(5)
    answer = bench.ask(Action.STAND, late=1.0)
    assert not answer['accepted']
    assert b'too late' in answer['text']
    assert bench.machine.mode is Mode.DAMP
    assert bench.ask(Action.STAND)['accepted']
    assert bench.ask(Action.ESTOP, late=9.0)['accepted']
    assert bench.machine.estop


def test_quit_damps_for_a_while():
    bench = Bench()
    bench.stand()
    bench.ros.send(wire_link.packet(Kind.QUIT))
    bench.cycles(1)
    assert bench.machine.mode is Mode.DAMP
    assert bench.loop._quit_at == pytest.approx(bench.now + QUIT_SECONDS)
    assert not bench.ask(Action.STAND)['accepted']


@pytest.mark.parametrize('tolerate', [False, True])
def test_foreign_writers(tolerate):
    bench = Bench(tolerate_silent_writers=tolerate, describe_writer=lambda handle: f'stranger {handle}')
    bench.stand()
    bench.wire.others = [42]
    bench.cycles(2)
    if tolerate:
        assert bench.machine.mode is Mode.STAND
        bench.wire.foreign_heard = True
        bench.cycles(2)
    assert bench.machine.fault is Fault.SECOND_WRITER
    assert 'stranger 42' in bench.machine.reason
    answer = bench.ask(Action.STAND)
    assert not answer['accepted']
    assert b'stranger 42' in answer['text']
    bench.wire.others, bench.wire.foreign_heard = [], False
    bench.cycles(2)
    assert bench.ask(Action.STAND)['accepted']


def test_a_writer_known_to_be_dead_does_not_count():
    bench = Bench(describe_writer=lambda handle: None)
    bench.stand()
    bench.wire.others = [42]
    bench.cycles(5)
    assert bench.machine.mode is Mode.STAND


def test_the_wall_clock_going_back_is_a_fault(monkeypatch):
    bench = Bench()
    bench.stand()
    offset = 0.0
    bench.loop._clock = ClockWatch(wall=lambda: 1e9 + bench.now + offset, monotonic=lambda: bench.now)
    bench.cycles(5)
    assert bench.machine.mode is Mode.STAND
    offset = 3600.0  # summer time forward: no harm
    bench.cycles(5)
    assert bench.machine.mode is Mode.STAND
    offset = -2.5
    bench.cycles(1)
    assert bench.machine.fault is Fault.CLOCK
    assert 'set back by 3602.5' in bench.machine.reason


def test_being_held_up_between_the_clocks_is_no_step():
    now = 0.0

    def slow_monotonic() -> float:
        nonlocal now
        now += 0.05
        return now

    watch = ClockWatch(wall=lambda: 1e9 + now, monotonic=slow_monotonic)
    assert [watch.went_back() for _ in range(20)] == [0.0] * 20


def test_states_go_out_at_their_rate_and_status_on_every_change():
    bench = Bench(state_every=5, status_every=100)
    bench.cycles(500)
    states = [p for p in bench.packets if p['kind'] == Kind.STATE]
    assert len(states) == 100
    np.testing.assert_allclose(states[-1]['position'], robot.DEFAULT_JOINT_POS, atol=1e-6)
    before = len([p for p in bench.packets if p['kind'] == Kind.STATUS])
    assert before in (6, 7)  # every 100 cycles, and when the robot was heard
    bench.ask(Action.ESTOP)
    assert bench.status()['estop']
    assert Fault(int(bench.status()['fault'])) is Fault.ESTOP


def test_targets_are_dated_by_the_tick_they_answer():
    bench = Bench(state_every=5)
    bench.stand()
    bench.ask(Action.RUN)
    shown = [p for p in bench.packets if p['kind'] == Kind.STATE][-1]
    packet = wire_link.packet(Kind.TARGETS)
    packet['sequence'], packet['state_tick'] = 1, shown['tick']
    packet['position'], packet['kp'], packet['kd'] = robot.DEFAULT_JOINT_POS, robot.KP, robot.KD
    bench.ros.send(packet)
    bench.cycles(1)
    assert bench.machine.mode is Mode.RUN
    assert bench.machine.targets_age(bench.now) == 0.0
    packet['sequence'], packet['state_tick'] = 2, 4_000_000_000
    bench.ros.send(packet)
    bench.cycles(1)
    assert bench.machine.fault is Fault.TARGETS_STALE


# The parts.


def test_a_link_keeps_packets_whole_and_ends_with_its_other_side():
    near, theirs = Link.pair()
    far = Link(theirs)
    packet = wire_link.packet(Kind.PROBLEM)
    packet['fault'], packet['text'] = 9, wire_link.text('ä' * 500)
    assert near.send(packet)
    near.send(wire_link.packet(Kind.HEARTBEAT))
    got = far.receive(1.0)
    assert (got['kind'], got['fault']) == (Kind.PROBLEM, 9)
    assert wire_link.read_text(got['text']) == 'ä' * 200, 'cut at a whole character'
    assert far.receive()['kind'] == Kind.HEARTBEAT
    assert far.receive() is None
    near.close()
    with pytest.raises(LinkClosed):
        far.receive()
    with pytest.raises(LinkClosed):
        far.send(packet)


def test_a_link_that_nobody_reads_drops_and_does_not_block():
    near, theirs = Link.pair()
    packet = wire_link.packet(Kind.STATE)
    start = time.monotonic()
    results = [near.send(packet) for _ in range(2000)]
    assert results[0]
    assert not results[-1]
    assert time.monotonic() - start < 1.0
    theirs.close()


def test_period_statistics():
    stats = PeriodStats(1_000_000, window=100)
    assert stats.window().samples == 0
    for _ in range(990):
        stats.add(1_010_000)
    for _ in range(10):
        stats.add(3_000_000)
    total, window = stats.total(), stats.window()
    assert (total.samples, total.misses) == (1000, 10)
    assert total.error_p50 == pytest.approx(12e-6, abs=2e-6)
    assert total.max == pytest.approx(3e-3)
    assert total.mean == pytest.approx(1.0299e-3)
    assert (window.samples, window.misses) == (100, 10)
    assert window.p99 == pytest.approx(3e-3)


def test_exactly_twice_the_period_is_no_miss():
    stats = PeriodStats(1_000_000)
    stats.add(2_000_000)
    assert stats.misses == 0
    stats.add(2_000_001)
    assert stats.misses == 1


def test_response_times():
    times = ResponseTimes()
    assert times.summary() == (0.0, 0.0)
    assert times.total() == (0, 0.0, 0.0)
    for k in range(1, 101):
        times.add(k * 1e-3)
    assert times.summary()[1] == pytest.approx(0.1)
    count, p99, longest = times.total()
    assert count == 100
    assert p99 == pytest.approx(0.099, abs=2e-4)
    assert longest == pytest.approx(0.1)


def test_observed_states_forget_the_oldest():
    seen = ObservedStates(size=3)
    for tick in (5, 6, 7, 8):
        seen.add(tick, tick * 0.1)
    assert seen.received_at(5) is None
    assert seen.received_at(8) == pytest.approx(0.8)


def test_a_ticker_keeps_its_grid_and_makes_up_for_nothing(monkeypatch):
    ticker = Ticker(1_000_000)
    first = ticker.wait()
    second = ticker.wait()
    assert 0 < second - first < 50_000_000
    time.sleep(0.02)
    woken = [ticker.wait() for _ in range(3)]
    assert woken[1] - woken[0] > 500_000, 'no burst after a pause'


def test_realtime_reports_what_is_missing(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'sched_setscheduler', refuse)
    report = ask_for_realtime(70, lock_memory=False)
    assert not report.realtime
    assert 'SCHED_FIFO is not permitted (Operation not permitted' in report.sentence
    assert not ask_for_realtime(0).realtime


@pytest.mark.parametrize(
    ('counts', 'mixed'),
    [
        ([1, 2, 3, 4, 5], False),
        ([1, 2, 5, 9], False),  # messages that were lost
        ([100, 101, 1, 2, 3], False),  # one policy that was restarted
        ([100, 1, 101, 2, 102, 3], True),
        ([7, 7, 8, 8], True),
    ],
)
def test_two_publishers_are_told_from_one_that_was_restarted(counts, mixed):
    watch = PublisherCounts()
    seen = [watch.add(count, 10.0 + 0.01 * k) for k, count in enumerate(counts)]
    assert any(seen) is mixed
    assert not watch.mixed(12.0), 'forgotten when the other one is silent'
