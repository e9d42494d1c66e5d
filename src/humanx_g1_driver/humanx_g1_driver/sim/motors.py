"""The motors of the simulated G1: PD with feed-forward, effort limits, actuation delay, and what happens in silence."""

import mujoco
import numpy as np

from humanx_description import robot
from humanx_g1_driver.sim.protocol import MotorState

# Rows of a command.
Q, DQ, TAU, KP, KD = range(5)


class Motors:
    """Turns commands into MuJoCo actuators: ``tau = kp (q* - q) + kd (dq* - dq) + tau_ff``, limited to the effort.

    The model's actuators become affine in q and dq, so that MuJoCo's implicit integrator takes the damping implicitly:
    a wrist with kd 8 N m s/rad on 0.004 kg m^2 would be unstable at 1 ms otherwise. For the same reason the effort
    limit is judged on the torque at the end of the step, as the rotor's inertia lets it fall, and a motor at its limit
    gives that torque flat: clamping the torque of the beginning makes strong damping chatter between both limits.

    ``delay_steps`` is the time from a command's arrival to its torque; after ``timeout_steps`` without a command every
    motor damps with ``damping`` (N m s/rad) until one comes. That watchdog is this simulator's: what the real motor
    boards do in silence is not published, so no controller may rely on it.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        delay_steps: int = 2,
        timeout_steps: int = 20,
        damping: float = 5.0,
    ) -> None:
        self._model = model
        count = robot.NUM_JOINTS
        ids = np.array([model.actuator(name).id for name in robot.JOINT_NAMES])
        assert np.array_equal(ids, np.arange(count)), 'scene actuators are in motor order'
        model.actuator_gainprm[:count, 0] = 1.0
        model.actuator_forcelimited[:count] = 0
        self._bias_q = model.actuator_biasprm[:count, 1]
        self._bias_dq = model.actuator_biasprm[:count, 2]
        self._dt_over_inertia = float(model.opt.timestep) / robot.ARMATURE
        self._line = np.zeros((delay_steps + 1, 5, count))
        self._damp = np.zeros((5, count))
        self._damp[KD] = damping
        self._timeout = timeout_steps
        self._head = 0
        self._silence = 0
        self._work = np.zeros(count)
        self._soft = np.zeros(count)
        self.command = np.zeros((5, count))  # written by whoever receives commands
        self.state = MotorState.IDLE
        self.reset()

    def reset(self) -> None:
        """Forget every command: no torque until the next one."""
        self.command[:] = 0.0
        self._line[:] = 0.0
        self._silence = 0
        self.state = MotorState.IDLE

    def accept(self) -> None:
        """Say that :attr:`command` holds a command that was just received."""
        self._silence = 0
        self.state = MotorState.COMMANDED

    def apply(self, data: mujoco.MjData) -> None:
        """Set the actuators for the next step of 1 ms."""
        line, head = self._line, self._head
        if self.state is MotorState.COMMANDED:
            self._silence += 1
            if self._silence > self._timeout:
                self.state = MotorState.DAMPING
                self.command[:] = self._damp
        line[head] = self.command
        head = (head + 1) % len(line)
        self._head = head
        active = line[head]  # the oldest: delay_steps old
        count = robot.NUM_JOINTS
        np.negative(active[KP], out=self._bias_q)
        np.negative(active[KD], out=self._bias_dq)
        ctrl = data.ctrl[:count]
        np.multiply(active[KP], active[Q], out=ctrl)
        np.multiply(active[KD], active[DQ], out=self._work)
        ctrl += self._work
        ctrl += active[TAU]
        self._limit(ctrl, data.qpos[7 : 7 + count], data.qvel[6 : 6 + count])

    def _limit(self, ctrl: np.ndarray, joint_pos: np.ndarray, joint_vel: np.ndarray) -> None:
        """Replace the law of the motors that are at their effort limit by that limit."""
        torque, soft = self._work, self._soft
        np.multiply(self._bias_q, joint_pos, out=torque)
        torque += ctrl
        np.multiply(self._bias_dq, joint_vel, out=soft)
        torque += soft
        np.multiply(self._bias_dq, self._dt_over_inertia, out=soft)
        np.subtract(1.0, soft, out=soft)
        torque /= soft
        np.abs(torque, out=soft)
        saturated = soft > robot.EFFORT_LIMIT
        if saturated.any():
            ctrl[saturated] = np.copysign(robot.EFFORT_LIMIT, torque)[saturated]
            self._bias_q[saturated] = 0.0
            self._bias_dq[saturated] = 0.0
