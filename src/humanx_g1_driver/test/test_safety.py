"""The safety machine: every state against every request and every fault, and what it commands."""

import itertools
import math

import numpy as np
import pytest

from humanx_description import robot
from humanx_g1_driver.faults import Action, Fault, Mode, Problem
from humanx_g1_driver.limits import SafetyLimits
from humanx_g1_driver.remote import KEYS
from humanx_g1_driver.safety import SafetyMachine
from humanx_g1_driver.stand import STAND_KD, STAND_KP, StandController
from humanx_g1_driver.targets import Targets

DT = 0.001
LIMITS = SafetyLimits(stand_seconds=0.2, blend_seconds=0.1)


class Rig:
    """A machine in a world of its own: a clock, a robot that stands still, a policy that may speak."""

    def __init__(self, limits: SafetyLimits = LIMITS) -> None:
        self.machine = SafetyMachine(limits, StandController())
        self.now = 100.0
        self.sequence = 0
        self.states = True
        self.targets = False
        self.keys = 0
        self.command = None
        self.machine.state.q[:] = robot.DEFAULT_JOINT_POS
        self.position = robot.DEFAULT_JOINT_POS.copy()
        self.kp, self.kd = robot.KP.copy(), robot.KD.copy()

    def make(self, **changes) -> Targets:
        self.sequence += 1
        values = {
            'sequence': self.sequence, 'position': self.position.copy(), 'kp': self.kp.copy(), 'kd': self.kd.copy(),
            'torque': np.zeros(29), 'stamp': self.now + 1e9, 'observed_at': self.now - 0.005, 'received_at': self.now,
        }  # fmt: skip
        return Targets(**{**values, **changes})

    def tick(self, cycles: int = 1) -> None:
        for _ in range(cycles):
            self.now += DT
            self.machine.wake(self.now)
            if self.states:
                self.machine.observe(self.keys, self.now)
            if self.targets and round(self.now * 1000) % 10 == 0:
                self.machine.offer(self.make(), self.now)
            self.command = self.machine.step(self.now)

    def ask(self, action: Action):
        answer = self.machine.request(action, self.now)
        self.tick()
        return answer

    def to(self, mode: Mode) -> 'Rig':
        if mode is Mode.ZERO_TORQUE:
            self.states = False
            self.tick()
            return self
        self.tick(3)
        if mode >= Mode.STAND:
            assert self.ask(Action.STAND).accepted
            self.tick(210)
        if mode is Mode.RUN:
            self.targets = True
            assert self.ask(Action.RUN).accepted
            self.tick(30)
        assert self.machine.mode is mode
        return self

    def damps(self) -> bool:
        c = self.command
        return bool((c.kp == 0).all() and (c.kd == LIMITS.damping).all() and (c.tau == 0).all())


def test_it_waits_limp_for_the_first_state_and_then_damps():
    rig = Rig()
    rig.to(Mode.ZERO_TORQUE)
    assert (rig.command.kp == 0).all()
    assert (rig.command.kd == 0).all()
    for action in (Action.STAND, Action.RUN):
        answer = rig.machine.request(action, rig.now)
        assert not answer.accepted
        assert 'no robot state' in answer.reason
    rig.states = True
    rig.tick()
    assert rig.machine.mode is Mode.DAMP
    assert rig.machine.fault is Fault.NONE
    assert rig.damps()


# Every request in every state: (state, request) -> (accepted, next state).
REQUESTS = {
    (Mode.ZERO_TORQUE, Action.DAMP): (True, Mode.DAMP),
    (Mode.ZERO_TORQUE, Action.STAND): (False, Mode.ZERO_TORQUE),
    (Mode.ZERO_TORQUE, Action.RUN): (False, Mode.ZERO_TORQUE),
    (Mode.ZERO_TORQUE, Action.ESTOP): (True, Mode.DAMP),
    (Mode.DAMP, Action.DAMP): (True, Mode.DAMP),
    (Mode.DAMP, Action.STAND): (True, Mode.STAND),
    (Mode.DAMP, Action.RUN): (False, Mode.DAMP),
    (Mode.DAMP, Action.ESTOP): (True, Mode.DAMP),
    (Mode.STAND, Action.DAMP): (True, Mode.DAMP),
    (Mode.STAND, Action.STAND): (True, Mode.STAND),
    (Mode.STAND, Action.RUN): (True, Mode.RUN),
    (Mode.STAND, Action.ESTOP): (True, Mode.DAMP),
    (Mode.RUN, Action.DAMP): (True, Mode.DAMP),
    (Mode.RUN, Action.STAND): (True, Mode.STAND),
    (Mode.RUN, Action.RUN): (True, Mode.RUN),
    (Mode.RUN, Action.ESTOP): (True, Mode.DAMP),
}


def test_the_table_is_complete():
    assert set(REQUESTS) == set(itertools.product(Mode, Action))


@pytest.mark.parametrize(('mode', 'action'), list(REQUESTS))
def test_every_request_in_every_state(mode, action):
    rig = Rig().to(mode)
    accepted, after = REQUESTS[mode, action]
    answer = rig.machine.request(action, rig.now)
    assert answer.accepted is accepted
    assert answer.reason
    assert rig.machine.mode is after
    assert rig.machine.estop is (action is Action.ESTOP)


@pytest.mark.parametrize(('mode', 'fault'), list(itertools.product(Mode, [f for f in Fault if f is not Fault.NONE])))
def test_every_fault_in_every_state_ends_in_damping_and_stays_there(mode, fault):
    rig = Rig().to(mode)
    rig.machine.raise_fault(Problem(fault, 'because'), rig.now)
    rig.tick()
    assert rig.machine.mode is Mode.DAMP
    assert rig.machine.fault is fault
    assert rig.machine.reason == 'because'
    assert rig.machine.fault_count == 1
    assert rig.damps()
    rig.states = rig.targets = True
    rig.tick(500)
    assert rig.machine.mode is Mode.DAMP, 'nothing but an operator leaves DAMP'
    assert rig.machine.fault is fault
    assert not rig.ask(Action.RUN).accepted
    assert rig.ask(Action.STAND).accepted
    assert rig.machine.fault is Fault.NONE


def test_damping_is_made_anew_every_cycle():
    rig = Rig().to(Mode.DAMP)
    for k in range(20):
        rig.command.kp[:] = 77.0  # whatever happened to the last command
        rig.machine.state.q[3] = 0.1 * k
        rig.tick()
        assert rig.damps()
        assert rig.command.q[3] == pytest.approx(0.1 * k)


def test_the_first_fault_is_kept():
    rig = Rig().to(Mode.RUN)
    rig.machine.raise_fault(Problem(Fault.TILT, 'first'), rig.now)
    rig.machine.raise_fault(Problem(Fault.STATE_STALE, 'second'), rig.now)
    assert (rig.machine.fault, rig.machine.reason, rig.machine.fault_count) == (Fault.TILT, 'first', 1)


# Time.


def test_targets_that_stop_are_a_fault_after_their_timeout_and_not_before():
    rig = Rig().to(Mode.RUN)
    rig.targets = False
    last = rig.machine._gate.last.received_at
    while rig.now - last <= LIMITS.targets_timeout - 1.5 * DT:
        rig.tick()
        assert rig.machine.mode is Mode.RUN
    rig.tick(3)
    assert rig.machine.fault is Fault.TARGETS_STALE
    assert rig.damps()


@pytest.mark.parametrize('mode', [Mode.DAMP, Mode.STAND, Mode.RUN])
def test_states_that_stop_are_a_fault(mode):
    rig = Rig().to(mode)
    rig.states = False
    rig.tick(18)
    assert rig.machine.mode is mode
    assert rig.machine.fault is Fault.NONE
    rig.tick(5)
    assert rig.machine.fault is Fault.STATE_STALE
    assert rig.damps()
    assert not rig.ask(Action.STAND).accepted


def test_a_loop_that_was_held_up_damps():
    rig = Rig().to(Mode.RUN)
    rig.now += 10.0
    rig.tick()
    assert rig.machine.fault is Fault.LOOP_OVERRUN
    assert '10001 ms' in rig.machine.reason
    assert rig.damps()


def test_run_without_targets_goes_on_standing_and_gives_up():
    rig = Rig().to(Mode.STAND)
    assert rig.ask(Action.RUN).accepted
    rig.tick(500)
    assert rig.machine.mode is Mode.RUN
    np.testing.assert_allclose(rig.command.kp, STAND_KP)
    rig.tick(600)
    assert rig.machine.mode is Mode.STAND
    assert 'no joint targets' in rig.machine.reason
    np.testing.assert_allclose(rig.command.kp, STAND_KP)


# Targets.


def _with(array, index, value):
    changed = np.array(array, dtype=float)
    changed[index] = value
    return changed


BAD_TARGETS = [
    ({'position': _with(robot.DEFAULT_JOINT_POS, 3, math.nan)}, Fault.TARGET_INVALID, 'left_knee_joint is nan'),
    ({'position': _with(robot.DEFAULT_JOINT_POS, 0, math.inf)}, Fault.TARGET_INVALID, 'inf'),
    ({'position': _with(robot.DEFAULT_JOINT_POS, 28, -math.inf)}, Fault.TARGET_INVALID, '-inf'),
    ({'position': _with(robot.DEFAULT_JOINT_POS, 5, 38.0)}, Fault.TARGET_INVALID, 'left_ankle_roll_joint is 38'),
    ({'kp': _with(robot.KP, 2, -1.0)}, Fault.TARGET_INVALID, 'kp of left_hip_yaw_joint is -1'),
    ({'kp': _with(robot.KP, 2, 1e4)}, Fault.TARGET_INVALID, 'kp'),
    ({'kd': _with(robot.KD, 2, math.nan)}, Fault.TARGET_INVALID, 'kd'),
    ({'kd': _with(robot.KD, 2, -0.1)}, Fault.TARGET_INVALID, 'kd'),
    ({'torque': _with(np.zeros(29), 22, 26.0)}, Fault.TARGET_INVALID, 'torque of right_shoulder_pitch_joint'),
    ({'position': _with(robot.DEFAULT_JOINT_POS, 15, -2.4)}, Fault.TARGET_INVALID, 'jumps by 2.60 rad'),
    ({'sequence': 1}, Fault.SEQUENCE, 'joint targets 1 came after'),
    ({'sequence': 0}, Fault.SEQUENCE, 'joint targets 0 came after'),
    ({'stamp': 5.0}, Fault.CLOCK, 'went back'),
    ({'observed_at': None}, Fault.TARGETS_STALE, 'no robot state of the last second'),
]  # fmt: skip


@pytest.mark.parametrize(('changes', 'fault', 'text'), BAD_TARGETS)
def test_bad_targets_are_a_fault_that_names_them(changes, fault, text):
    rig = Rig().to(Mode.RUN)
    rig.machine.offer(rig.make(**changes), rig.now)
    rig.tick()
    assert rig.machine.fault is fault
    assert text in rig.machine.reason
    assert rig.damps()


def test_swinging_far_beyond_a_limit_is_no_jump():
    rig = Rig().to(Mode.RUN)
    for side in (1.0, -1.0, 1.0):
        rig.machine.offer(rig.make(position=_with(robot.DEFAULT_JOINT_POS, 5, 2.0 * side)), rig.now)
        rig.tick()
        assert rig.machine.mode is Mode.RUN, rig.machine.reason
        assert abs(rig.command.q[5]) <= robot.TARGET_UPPER[5]


def test_a_repeated_message_is_a_fault():
    rig = Rig().to(Mode.RUN)
    rig.machine.offer(rig.make(sequence=rig.machine._gate.last.sequence), rig.now)
    assert rig.machine.fault is Fault.SEQUENCE
    assert 'repeated' in rig.machine.reason


def test_an_answer_to_an_old_state_is_a_fault():
    rig = Rig().to(Mode.RUN)
    rig.machine.offer(rig.make(observed_at=rig.now - 0.06), rig.now)
    assert rig.machine.fault is Fault.TARGETS_STALE
    assert '60 ms old' in rig.machine.reason


@pytest.mark.parametrize('mode', [Mode.ZERO_TORQUE, Mode.DAMP, Mode.STAND])
def test_targets_outside_run_change_nothing(mode):
    rig = Rig().to(mode)
    rig.machine.offer(rig.make(position=np.full(29, math.nan)), rig.now)
    rig.tick()
    assert rig.machine.mode is mode
    assert rig.machine.fault is Fault.NONE


def test_a_new_run_accepts_a_restarted_sequence():
    rig = Rig().to(Mode.RUN)
    rig.machine.raise_fault(Problem(Fault.TILT, 'x'), rig.now)
    rig.sequence = 0
    rig.targets = False
    assert rig.ask(Action.STAND).accepted
    rig.tick(210)
    rig.targets = True
    assert rig.ask(Action.RUN).accepted
    rig.tick(100)
    assert rig.machine.mode is Mode.RUN


# The robot.


def _quat(angle: float, axis: int) -> np.ndarray:
    quat = np.zeros(4)
    quat[0], quat[axis] = math.cos(angle / 2), math.sin(angle / 2)
    return quat


@pytest.mark.parametrize(('angle', 'axis'), [(1.1, 1), (-1.1, 2), (3.0, 1)])
@pytest.mark.parametrize('mode', [Mode.STAND, Mode.RUN])
def test_tilt_beyond_sixty_degrees(mode, angle, axis):
    rig = Rig().to(mode)
    rig.machine.state.quat[:] = _quat(math.copysign(1.0, angle), axis)
    rig.tick()
    assert rig.machine.mode is mode
    rig.machine.state.quat[:] = _quat(angle, axis)
    rig.tick()
    assert rig.machine.fault is Fault.TILT
    assert rig.damps()
    assert not rig.ask(Action.STAND).accepted


def test_turning_on_the_spot_is_no_tilt():
    rig = Rig().to(Mode.RUN)
    rig.machine.state.quat[:] = _quat(3.0, 3)
    rig.tick()
    assert rig.machine.mode is Mode.RUN


STATES = [
    ('dq', _with(np.zeros(29), 3, 1.51 * robot.VELOCITY_LIMIT[3]), Fault.JOINT_VELOCITY, 'left_knee_joint moves'),
    ('dq', _with(np.zeros(29), 9, -1.51 * robot.VELOCITY_LIMIT[9]), Fault.JOINT_VELOCITY, 'right_knee_joint'),
    ('dq', _with(np.zeros(29), 9, math.nan), Fault.STATE_INVALID, 'not finite'),
    ('q', _with(np.zeros(29), 1, math.inf), Fault.STATE_INVALID, 'not finite'),
    ('gyro', np.array([0.0, math.nan, 0.0]), Fault.STATE_INVALID, 'not finite'),
    ('quat', np.zeros(4), Fault.STATE_INVALID, 'norm 0.000'),
    ('quat', np.full(4, math.nan), Fault.STATE_INVALID, 'norm'),
    ('max_temperature', 111, Fault.TEMPERATURE, '111 degrees'),
]


@pytest.mark.parametrize(('name', 'value', 'fault', 'text'), STATES)
@pytest.mark.parametrize('mode', [Mode.STAND, Mode.RUN])
def test_states_to_damp_in(mode, name, value, fault, text):
    rig = Rig().to(mode)
    if name == 'max_temperature':
        rig.machine.state.max_temperature = value
    else:
        getattr(rig.machine.state, name)[:] = value
    rig.tick()
    assert rig.machine.fault is fault
    assert text in rig.machine.reason
    assert rig.machine.mode is Mode.DAMP
    assert (rig.command.kp == 0).all()


# The emergency stop.


@pytest.mark.parametrize('keys', [KEYS['L2'] | KEYS['B'], KEYS['select'], KEYS['select'] | KEYS['A']])
def test_the_remote_stops_and_holds(keys):
    rig = Rig().to(Mode.RUN)
    rig.keys = keys
    rig.tick()
    assert rig.machine.fault is Fault.ESTOP
    assert rig.machine.estop
    assert rig.damps()
    assert not rig.ask(Action.STAND).accepted
    assert not rig.ask(Action.DAMP).accepted, 'it is still pressed'
    rig.keys = 0
    rig.tick()
    assert not rig.ask(Action.STAND).accepted, 'letting go is not asking'
    assert rig.ask(Action.DAMP).accepted
    assert rig.ask(Action.STAND).accepted


@pytest.mark.parametrize('keys', [KEYS['L2'], KEYS['B'], KEYS['start'], KEYS['A'] | KEYS['R2']])
def test_other_keys_do_not_stop(keys):
    rig = Rig().to(Mode.RUN)
    rig.keys = keys
    rig.tick(5)
    assert rig.machine.mode is Mode.RUN


def test_the_service_stops_and_holds():
    rig = Rig().to(Mode.RUN)
    assert rig.ask(Action.ESTOP).accepted
    assert rig.damps()
    assert 'emergency stop holds' in rig.ask(Action.STAND).reason
    assert rig.ask(Action.DAMP).accepted
    assert rig.ask(Action.STAND).accepted


# What it commands.


def test_run_commands_the_targets():
    rig = Rig()
    rig.position = robot.DEFAULT_JOINT_POS + 0.02
    rig.to(Mode.RUN)
    np.testing.assert_allclose(rig.command.q, rig.position)
    np.testing.assert_allclose(rig.command.kp, rig.kp)
    np.testing.assert_allclose(rig.command.kd, rig.kd)
    assert rig.machine.clamped == 0 or rig.machine.clamped < 5


def test_run_waits_until_it_stands():
    rig = Rig().to(Mode.DAMP)
    rig.ask(Action.STAND)
    answer = rig.machine.request(Action.RUN, rig.now)
    assert not answer.accepted
    assert 'still moving' in answer.reason


def test_going_from_run_to_stand_jumps_in_nothing():
    rig = Rig()
    rig.position = robot.DEFAULT_JOINT_POS + 0.1
    rig.to(Mode.RUN)
    rig.tick(20)
    before = (rig.command.q.copy(), rig.command.kp.copy())
    assert rig.ask(Action.STAND).accepted
    assert np.abs(rig.command.q - before[0]).max() < 0.01
    assert np.abs(rig.command.kp - before[1]).max() < 0.1 * STAND_KP.max()
    last = rig.command.q.copy()
    for _ in range(110):
        rig.tick()
        assert np.abs(rig.command.q - last).max() < 0.01
        last = rig.command.q.copy()
    np.testing.assert_allclose(rig.command.kd, STAND_KD)
    ankles = [i for i, name in enumerate(robot.JOINT_NAMES) if 'ankle' in name]
    others = np.setdiff1d(np.arange(29), ankles)
    np.testing.assert_allclose(rig.command.q[others], robot.DEFAULT_JOINT_POS[others], atol=1e-9)


@pytest.mark.parametrize('seed', range(20))
def test_no_command_ever_asks_for_more_than_limits_allow(seed):
    """Whatever accepted targets and measured states come: position and torque stay within limits."""
    rng = np.random.default_rng(seed)
    rig = Rig().to(Mode.RUN)
    rig.targets = False
    state = rig.machine.state
    for _ in range(300):
        state.q[:] = rng.uniform(robot.JOINT_LOWER - 0.1, robot.JOINT_UPPER + 0.1)
        state.dq[:] = rng.uniform(-1.4, 1.4, 29) * robot.VELOCITY_LIMIT
        rig.position = rng.uniform(robot.JOINT_LOWER - 1.0, robot.JOINT_UPPER + 1.0)
        rig.position = np.clip(
            rig.position, rig.machine._gate.last.position - 2.4, rig.machine._gate.last.position + 2.4
        )
        rig.kp, rig.kd = rng.uniform(0, 300, 29), rng.uniform(0, 20, 29)
        rig.kp[rng.random(29) < 0.1] = 0.0
        rig.machine.offer(rig.make(torque=rng.uniform(-1, 1, 29) * robot.EFFORT_LIMIT), rig.now)
        rig.tick()
        assert rig.machine.mode is Mode.RUN, rig.machine.reason
        c = rig.command
        torque = c.kp * (c.q - state.q) - c.kd * state.dq + c.tau
        stiff = c.kp > 1e-3
        assert (np.abs(torque[stiff]) <= robot.EFFORT_LIMIT[stiff] + 1e-9).all()
        assert (np.abs(c.tau[~stiff]) <= robot.EFFORT_LIMIT[~stiff]).all()
    assert rig.machine.clamped > 0


def test_targets_move_no_faster_than_their_rate():
    rig = Rig(SafetyLimits(stand_seconds=0.2, max_target_rate=1.0)).to(Mode.RUN)
    rig.tick(100)
    rig.targets = False
    state = rig.machine.state
    goal = _with(robot.DEFAULT_JOINT_POS, 12, 1.5)
    rig.machine.offer(rig.make(position=goal), rig.now)
    last = float(rig.command.q[12])
    rig.kp[:] = 1.0  # so soft that the torque clamp does not hide the rate
    for _ in range(30):
        rig.machine.offer(rig.make(position=goal, kp=np.ones(29)), rig.now)
        rig.tick()
        assert abs(rig.command.q[12] - last) <= robot.VELOCITY_LIMIT[12] * DT + 1e-9
        last = float(rig.command.q[12])
    assert last > 0.5
    assert state is rig.machine.state


def test_targets_are_kept_within_the_margin_of_joint_limits():
    rig = Rig()
    rig.position = _with(robot.DEFAULT_JOINT_POS, 5, 1.0)  # an ankle roll: 0.2618, and 0.5 for servo targets
    rig.kp[:] = 10.0
    rig.to(Mode.RUN)
    rig.tick(50)
    assert rig.command.q[5] == pytest.approx(0.2618 + 0.5)
