"""The 1 kHz control loop: robot state in, safety machine, motor command out. No ROS here.

Every period, at an absolute deadline: take the newest state, take what the ROS side sent, let the safety machine
decide, send the command. Nothing in it waits for anything but the deadline. What the ROS side and the operator see
goes out through the link; a link that is not read, or gone, costs a fault and never a cycle.
"""

import contextlib
import math
import time
import traceback
from collections.abc import Callable

import numpy as np

from humanx_description import robot
from humanx_g1_driver import link as wire_link
from humanx_g1_driver.faults import Action, Answer, Fault, Mode, Problem
from humanx_g1_driver.link import Kind, Link, LinkClosed
from humanx_g1_driver.observed import ObservedStates, ResponseTimes
from humanx_g1_driver.period_stats import PeriodStats
from humanx_g1_driver.process_state import ProcessState
from humanx_g1_driver.realtime import ClockWatch, Ticker
from humanx_g1_driver.remote import read_keys, read_remote
from humanx_g1_driver.safety import SafetyMachine
from humanx_g1_driver.targets import Targets
from humanx_g1_driver.transport import CommandTransport
from humanx_g1_driver.wire import NUM_MOTORS, LowCmdBuffer, LowStateBuffer

PERIOD_NS = 1_000_000
ANSWER_S = 0.2  # the ROS side waits no longer for an answer
ROS_LOOK_CYCLES = 10  # between two looks whether the ROS side has been stopped
QUIT_SECONDS = 0.3  # of damping before leaving
_N = robot.NUM_JOINTS


class ControlLoop:
    """Owns the transport, the safety machine and this side of the link."""

    def __init__(
        self,
        machine: SafetyMachine,
        transport: CommandTransport,
        link: Link,
        *,
        state_every: int = 5,
        status_every: int = 100,
        orphan_seconds: float = 3.0,
        tolerate_silent_writers: bool = False,
        describe_writer: Callable[[int], str | None] | None = None,
        ros_side: ProcessState | None = None,
    ) -> None:
        """``state_every``, ``status_every``: cycles between packets to the ROS side.

        ``orphan_seconds``: how long to go on damping after the ROS side died. ``describe_writer``: returns, without
        waiting, a name for the handle of a foreign writer. ``ros_side``: the process at the link's other end.
        """
        self._machine = machine
        self._transport = transport
        self._link: Link | None = link
        self._state_every, self._status_every = state_every, status_every
        self._orphan_s = orphan_seconds
        self._tolerate_silent = tolerate_silent_writers
        self._describe_writer = describe_writer or (lambda handle: f'writer {handle:x}')
        self._ros_side = ros_side
        self._state = LowStateBuffer()
        self._command = LowCmdBuffer()
        modes = np.zeros(NUM_MOTORS, dtype=np.uint8)
        modes[:_N] = 1
        self._command.mode = modes
        self._heard = False
        self._observed = ObservedStates()
        self._response = ResponseTimes()
        self._clock = ClockWatch()
        self._ros_at = 0.0
        self._orphan_since: float | None = None
        self._error_told = False
        self._quit_at = math.inf
        self._mode_told: tuple | None = None
        self._cycle = 0
        self._state_fresh = False
        self._received_at = 0.0
        self.stats = PeriodStats(PERIOD_NS)
        self._state_packet = wire_link.packet(Kind.STATE)
        self._status_packet = wire_link.packet(Kind.STATUS)

    def run(self) -> None:
        """Run until the ROS side asks to quit, or for a while after it died."""
        ticker = Ticker(PERIOD_NS)
        last = ticker.wait()
        self._ros_at = last * 1e-9
        now = self._ros_at
        while now < self._quit_at:
            now_ns = ticker.wait()
            self.stats.add(now_ns - last)
            last = now_ns
            now = now_ns * 1e-9
            self.cycle(now)

    def cycle(self, now: float) -> None:
        """One control period. An error in any part of it is a fault; the command is sent all the same."""
        machine = self._machine
        machine.wake(now)
        try:
            self._take_state(now)
            self._watch_wire(now)
            self._take_link(now)
            self._watch_ros(now)
        except Exception as error:
            self._broken(error, now)
        if self._heard:
            try:
                out = machine.step(now)
                if not out.is_finite():
                    raise FloatingPointError('a command that is not finite')
            except Exception as error:
                self._broken(error, now)
                out = machine.damping()
            command = self._command
            command.q[:_N], command.kp[:_N], command.kd[:_N], command.tau[:_N] = out.q, out.kp, out.kd, out.tau
            try:
                self._transport.send_command(command)
            except Exception as error:
                self._broken(error, now)
        self._tell(now)

    def _broken(self, error: Exception, now: float) -> None:
        """An error of our own: whatever it is, the robot must get its damping command in this very cycle."""
        self._machine.raise_fault(Problem(Fault.INTERNAL, f'error in the control loop: {error!r}'), now)
        if not self._error_told:
            self._error_told = True
            traceback.print_exc()

    def _take_state(self, now: float) -> None:
        if not self._transport.poll_state(self._state):
            return
        state, snapshot = self._state, self._machine.state
        tick = state.tick
        if tick == snapshot.tick:
            return  # a robot that repeats itself is as good as silent
        snapshot.read(state)
        self._machine.observe(read_keys(state.wireless_remote), now)
        self._command.mode_machine = state.mode_machine
        self._command.mode_pr = 0
        self._heard = True
        self._state_fresh = True
        self._received_at = now

    def _take_link(self, now: float) -> None:
        if self._link is None:
            return
        try:
            while (packet := self._link.receive()) is not None:
                self._ros_at = now
                self._handle(packet, now)
        except LinkClosed:
            self._link = None
            self._orphan_since = now
            self._machine.raise_fault(Problem(Fault.INTERNAL, 'the ROS side of the driver died'), now)

    def _handle(self, packet: np.void, now: float) -> None:
        kind = int(packet['kind'])
        if kind == Kind.TARGETS:
            observed_at = self._observed.received_at(int(packet['state_tick']))
            targets = Targets(
                int(packet['sequence']), packet['position'], packet['kp'], packet['kd'], packet['torque'],
                float(packet['stamp']), observed_at, now,
            )  # fmt: skip
            if self._machine.mode is Mode.RUN and observed_at is not None:
                self._response.add(now - observed_at)
            self._machine.offer(targets, now)
        elif kind == Kind.REQUEST:
            answer = self._request(Action(int(packet['action'])), float(packet['asked_at']), now)
            reply = wire_link.packet(Kind.ANSWER)
            reply['id'], reply['accepted'] = packet['id'], answer.accepted
            reply['text'] = wire_link.text(answer.reason)
            self._link and self._link.send(reply)
        elif kind == Kind.PROBLEM:
            problem = Problem(Fault(int(packet['fault'])), wire_link.read_text(packet['text']))
            self._machine.raise_fault(problem, now)
        elif kind == Kind.QUIT:
            # A robot that stands is let down by us, not by whatever its motors do in silence.
            self._machine.request(Action.DAMP, now)
            self._machine.reason = 'the driver was told to stop'
            self._quit_at = now + QUIT_SECONDS

    def _request(self, action: Action, asked_at: float, now: float) -> Answer:
        if self._quit_at < math.inf and action is not Action.ESTOP:
            return Answer(False, 'the driver is being stopped')
        # A call that waited in the socket while this process was stopped: the operator has been told that nobody
        # answers, and must not see the robot get up later. Stopping is never too late.
        if action in (Action.STAND, Action.RUN) and now - asked_at > ANSWER_S:
            return Answer(False, f'the call came {now - asked_at:.1f} s too late')
        return self._machine.request(action, now)

    def _watch_ros(self, now: float) -> None:
        """The ROS side: dead (then this process ends after a while of damping), stopped or silent."""
        machine = self._machine
        if self._orphan_since is not None:
            if now - self._orphan_since > self._orphan_s:
                self._quit_at = now
        elif machine.mode not in (Mode.STAND, Mode.RUN):
            return
        elif self._ros_side is not None and self._cycle % ROS_LOOK_CYCLES == 0 and self._ros_side.stopped():
            machine.raise_fault(Problem(Fault.INTERNAL, 'the ROS side of the driver has been stopped'), now)
        elif now - self._ros_at > machine.limits.ros_timeout:
            # The middleware may hold it up for a moment where nodes come and go; a robot in RUN does not wait for that,
            # its targets get stale first.
            silence = 1e3 * (now - self._ros_at)
            machine.raise_fault(
                Problem(Fault.INTERNAL, f'the ROS side of the driver has been silent for {silence:.0f} ms'), now
            )

    def _watch_wire(self, now: float) -> None:
        """Other writers of commands, and the wall clock, which the stamps of others depend on."""
        machine = self._machine
        step = self._clock.went_back()
        if step:
            machine.raise_fault(Problem(Fault.CLOCK, f'the wall clock was set back by {step:.3f} s'), now)
        # Two microseconds a cycle are well spent here: two writers fight over the motors at 1 kHz.
        writers = self._transport.foreign_writers()
        if writers and self._tolerate_silent and not self._transport.foreign_command_heard():
            writers = []
        # None: known to be a process that is gone.
        names = [name for name in map(self._describe_writer, writers) if name is not None]
        machine.obstacle = f'rt/lowcmd has a second writer: {" and ".join(names)}' if names else ''
        if names:
            machine.raise_fault(Problem(Fault.SECOND_WRITER, machine.obstacle), now)

    def _tell(self, now: float) -> None:
        self._cycle += 1
        if self._link is None:
            self._state_fresh = False
            return
        machine = self._machine
        try:
            if self._state_fresh and self._cycle % self._state_every == 0:
                self._state_fresh = False
                self._send_state(now)
            told = (machine.mode, machine.fault_count, machine.reason, machine.estop)
            if told != self._mode_told or self._cycle % self._status_every == 0:
                self._mode_told = told
                self._send_status(now)
        except LinkClosed:
            pass  # noticed by the next cycle's receive

    def _send_state(self, now: float) -> None:
        state, packet = self._state, self._state_packet
        tick = state.tick
        packet['tick'], packet['received_at'], packet['mode'] = tick, self._received_at, self._machine.mode
        packet['position'], packet['velocity'] = state.q[:_N], state.dq[:_N]
        packet['torque'], packet['temperature'] = state.tau_est[:_N], state.temperature[:_N, 1]
        packet['quat'], packet['gyro'], packet['acceleration'] = state.quaternion, state.gyroscope, state.accelerometer
        remote = read_remote(state.wireless_remote)
        packet['keys'], packet['sticks'] = remote.keys, remote.sticks
        self._observed.add(tick, self._received_at)
        if self._link is not None:
            self._link.send(packet)

    def _send_status(self, now: float) -> None:
        machine, packet, stats = self._machine, self._status_packet, self.stats.window()
        packet['mode'], packet['fault'], packet['fault_count'] = machine.mode, machine.fault, machine.fault_count
        packet['estop'], packet['period_samples'] = machine.estop, stats.samples
        packet['made_at'], packet['fault_at'] = now, machine.fault_at
        packet['period_mean'], packet['period_p99'] = stats.mean, stats.p99
        packet['period_max'], packet['period_error_p99'] = stats.max, stats.error_p99
        packet['cycles'], packet['misses'] = self.stats.cycles, self.stats.misses
        packet['clamped'] = machine.clamped
        packet['state_age'] = machine.state_age(now)
        age = machine.targets_age(now)
        packet['targets_age'] = age if machine.mode is Mode.RUN else math.inf
        packet['response_p99'], packet['response_max'] = self._response.summary()
        packet['damaged_states'] = getattr(self._transport, 'damaged_states', 0)
        packet['text'] = wire_link.text(machine.reason)
        if self._link is not None:
            self._link.send(packet)

    def say_done(self, started: float, cpu_started: float) -> None:
        """Send the statistics of the whole run: the last packet."""
        if self._link is None:
            return
        total, packet = self.stats.total(), wire_link.packet(Kind.DONE)
        packet['cycles'], packet['misses'] = total.samples, total.misses
        packet['seconds'] = time.monotonic() - started
        packet['cpu_seconds'] = time.process_time() - cpu_started
        packet['period_mean'], packet['period_max'] = total.mean, total.max
        packet['error_p50'], packet['error_p99'] = total.error_p50, total.error_p99
        packet['responses'], packet['response_p99'], packet['response_max'] = self._response.total()
        with contextlib.suppress(LinkClosed):
            self._link.send(packet)
