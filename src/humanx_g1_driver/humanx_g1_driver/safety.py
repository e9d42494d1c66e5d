"""The safety machine: ZERO_TORQUE, DAMP, STAND, RUN. Pure: no input or output, no clock of its own.

Only an operator's call goes up that list (from ZERO_TORQUE, before a robot was heard, the machine goes to DAMP by
itself). Every fault goes to DAMP at once, whatever the state, and stays there until an operator asks. An emergency stop
is kept until an operator explicitly asks for DAMP. Damping is a command like any other: it is made anew every cycle.
"""

import math

import numpy as np

from humanx_description import robot
from humanx_g1_driver.commands import Clamps, MotorCommand
from humanx_g1_driver.faults import Action, Answer, Fault, Mode, Problem
from humanx_g1_driver.limits import SafetyLimits
from humanx_g1_driver.remote import is_estop
from humanx_g1_driver.stand import StandController
from humanx_g1_driver.state import RobotSnapshot, implausible, unsafe
from humanx_g1_driver.targets import TargetGate, Targets

_NAMED = (Fault.SECOND_PUBLISHER, Fault.SECOND_WRITER)


class SafetyMachine:
    """Decides, once per control period, what the motors are told.

    Call in this order each period: :meth:`wake`, :meth:`observe` if a new robot state came, :meth:`offer` for each new
    joint targets, :meth:`request` for each operator's call, :meth:`raise_fault` for what others noticed, then
    :meth:`step`. All times are seconds on one monotonic clock.
    """

    def __init__(self, limits: SafetyLimits, stand: StandController, period_s: float = 0.001) -> None:
        self.limits = limits
        self.mode = Mode.ZERO_TORQUE
        self.reason = 'waiting for the first robot state'
        self.fault = Fault.NONE
        self.fault_at = 0.0
        self.fault_count = 0
        self.estop = False
        self.clamped = 0
        self.state = RobotSnapshot()
        self._stand = stand
        self._gate = TargetGate(limits)
        self._clamps = Clamps(limits.max_target_rate, period_s)
        self._command = MotorCommand()
        self._state_at: float | None = None
        self._believed_q = np.zeros(robot.NUM_JOINTS)  # what goes into damping commands: never a number that is not one
        self._state_problem: Problem | None = None
        self._run_since = 0.0
        self._last_wake: float | None = None
        self.obstacle = ''  # why, for reasons outside this machine, the robot must not be started; set by the caller

    # What comes in.

    def wake(self, now: float) -> None:
        """A period begins. One that comes far too late is a fault of its own, whatever has piled up meanwhile."""
        last, self._last_wake = self._last_wake, now
        if last is not None and now - last > self.limits.overrun_timeout:
            self.raise_fault(
                Problem(Fault.LOOP_OVERRUN, f'the control loop was held up for {1e3 * (now - last):.0f} ms'), now
            )

    def observe(self, keys: int, now: float) -> None:
        """:attr:`state` was just filled from a new message; ``keys`` are the remote's buttons."""
        self.state.keys = keys
        if is_estop(keys) and not self.estop:
            self._stop(now, 'emergency stop from the remote')
        self._state_problem = implausible(self.state)
        if self._state_problem is not None:
            self.raise_fault(self._state_problem, now)
            return
        self._state_at = now
        self._believed_q[:] = self.state.q
        if self.mode is Mode.ZERO_TORQUE:
            self._damp('the robot is heard; waiting for the operator')
        elif self.mode is not Mode.DAMP:
            problem = unsafe(self.state, self.limits)
            if problem is not None:
                self.raise_fault(problem, now)

    def offer(self, targets: Targets, now: float) -> None:
        """New joint targets came. Outside RUN they are not looked at."""
        if self.mode is not Mode.RUN:
            return
        problem = self._gate.check(targets)
        if problem is not None:
            self.raise_fault(problem, now)

    def raise_fault(self, problem: Problem, now: float) -> None:
        """Go to DAMP. The first fault is kept: what follows is mostly its consequence."""
        if self.mode in (Mode.STAND, Mode.RUN) or self.fault is Fault.NONE:
            self.fault, self.fault_at = problem.fault, now
            self.fault_count += 1
            self._damp(problem.reason)
        elif self.fault is problem.fault and problem.fault in _NAMED:
            self.reason = problem.reason  # the same, with the name that discovery has found meanwhile

    def request(self, action: Action, now: float) -> Answer:
        """An operator's call."""
        if action is Action.ESTOP:
            self._stop(now, 'emergency stop by service')
            return Answer(True, 'stopped: the robot damps; ask for damp, then stand, to go on')
        if action is Action.DAMP:
            return self._request_damp()
        refusal = self._why_not_up(now)
        if refusal is not None:
            return Answer(False, refusal)
        return self._request_stand(now) if action is Action.STAND else self._request_run(now)

    # What goes out.

    def step(self, now: float) -> MotorCommand:
        """Return the command of this period (reused: valid until the next call)."""
        self._check_time(now)
        command, state = self._command, self.state
        if self.mode is Mode.RUN and not self._run(now):
            self._check_first_targets(now)
        if self.mode is Mode.STAND or (self.mode is Mode.RUN and self._gate.last is None):
            self._stand.command(now, state.quat, state.gyro, command)
        if self.mode in (Mode.STAND, Mode.RUN):
            self.clamped += self._clamps.apply(command, state.q, state.dq)
        elif self.mode is Mode.DAMP:
            self.damping()
        else:
            command.set_limp(self._believed_q)
        return command

    def damping(self) -> MotorCommand:
        """Return the damping command, whatever the state (reused as that of :meth:`step`)."""
        self._command.set_damping(self._believed_q, self.limits.damping)
        return self._command

    def state_age(self, now: float) -> float:
        """Seconds since the last believable robot state; infinite if none came."""
        return math.inf if self._state_at is None else now - self._state_at

    def targets_age(self, now: float) -> float:
        """Seconds since the last accepted joint targets of this run; infinite if there are none."""
        return math.inf if self._gate.last is None else now - self._gate.last.received_at

    # Inside.

    def _damp(self, reason: str) -> None:
        self.mode, self.reason = Mode.DAMP, reason
        self._gate.restart()

    def _stop(self, now: float, reason: str) -> None:
        self.estop = True
        # An emergency stop is worth more than any fault before it.
        self.fault, self.fault_at = Fault.ESTOP, now
        self.fault_count += 1
        self._damp(reason)

    def _request_damp(self) -> Answer:
        if self.estop and is_estop(self.state.keys):
            return Answer(False, 'the emergency stop is still pressed on the remote; let go of it first')
        self.estop = False
        self.fault = Fault.NONE
        self._damp('the operator asked for damping')
        return Answer(True, 'damping')

    def _why_not_up(self, now: float) -> str | None:
        if self.estop:
            return 'the emergency stop holds; ask for damp first'
        if self.obstacle:
            return self.obstacle
        age = self.state_age(now)
        if age > self.limits.state_timeout:
            return 'no robot state came yet' if age == math.inf else f'the last robot state is {age:.2f} s old'
        problem = self._state_problem or unsafe(self.state, self.limits)
        return problem.reason if problem else None

    def _request_stand(self, now: float) -> Answer:
        if self.mode is Mode.STAND:
            return Answer(True, 'already standing')
        running = self.mode is Mode.RUN
        if not running:
            self.damping()
            self._clamps.restart(self.state.q)
        # From RUN the move starts where the last target pulls to, so that no torque changes at once.
        seconds = self.limits.blend_seconds if running else self.limits.stand_seconds
        if not (running and self._gate.last is None):  # still standing while it waited for targets: go on
            self._stand.begin(self._command, now, seconds)
        self.mode, self.reason, self.fault = Mode.STAND, 'the operator asked to stand', Fault.NONE
        return Answer(True, f'standing in {seconds:.1f} s')

    def _request_run(self, now: float) -> Answer:
        if self.mode is Mode.RUN:
            return Answer(True, 'already running')
        if self.mode is not Mode.STAND:
            return Answer(False, f'the driver is in {self.mode.name}; ask for stand first')
        if not self._stand.settled(now):
            return Answer(False, 'still moving to the standing pose; ask again when it stands')
        self._gate.restart()
        self._run_since = now
        self.mode, self.reason = Mode.RUN, 'the operator asked to run'
        return Answer(True, 'running; standing until the first joint targets come')

    def _check_time(self, now: float) -> None:
        age = self.state_age(now)
        if age > self.limits.state_timeout and self.mode is not Mode.ZERO_TORQUE:
            limit = 1e3 * self.limits.state_timeout
            self.raise_fault(
                Problem(Fault.STATE_STALE, f'no robot state for {1e3 * age:.0f} ms, expected one every {limit:.0f} ms'),
                now,
            )
        age = self.targets_age(now)
        if self.mode is Mode.RUN and self.limits.targets_timeout < age < math.inf:
            limit = 1e3 * self.limits.targets_timeout
            self.raise_fault(
                Problem(
                    Fault.TARGETS_STALE, f'no joint targets for {1e3 * age:.0f} ms, expected some every {limit:.0f} ms'
                ),
                now,
            )

    def _run(self, now: float) -> bool:
        """Write the newest targets into the command; False if none came yet."""
        targets = self._gate.last
        if targets is None:
            return False
        command = self._command
        command.q[:], command.kp[:] = targets.position, targets.kp
        command.kd[:], command.tau[:] = targets.kd, targets.torque
        return True

    def _check_first_targets(self, now: float) -> None:
        # The robot stands: staying there is safer than letting it fall.
        if now - self._run_since > self.limits.first_targets_timeout:
            self.mode = Mode.STAND
            self.reason = (
                f'no joint targets came within {self.limits.first_targets_timeout:.1f} s of the call to run; '
                'standing again'
            )
