"""The robot's end of the wire: what a G1 does with a LowCmd, and the LowState it sends every millisecond."""

import numpy as np

from humanx_description import robot
from humanx_g1_driver.sim.motors import DQ, KD, KP, TAU, Motors, Q
from humanx_g1_driver.sim.sensors import Sensors
from humanx_g1_driver.transport import DdsRobotTransport
from humanx_g1_driver.wire import LowCmdBuffer, LowStateBuffer

MODE_MACHINE = 5  # the 29-joint G1
MODE_PR = 0

_COUNT = robot.NUM_JOINTS

class RobotEnd:
    """Receives commands into the motors, as strict as the robot, and sends states.

    A command counts only if its size and CRC are right (the transport's check), its ``mode_machine`` echoes the
    robot's, its ``mode_pr`` is 0 (pitch and roll of ankles and waist) and its numbers are finite; others change
    nothing, as if they had not come. A motor whose ``mode`` is not 1 gets no torque.
    """

    def __init__(self, transport: DdsRobotTransport, motors: Motors, *, mode_machine: int = MODE_MACHINE) -> None:
        self._transport = transport
        self._motors = motors
        self._in = LowCmdBuffer()
        self._out = LowStateBuffer()
        self._out.mode_machine = mode_machine
        self._out.mode_pr = MODE_PR
        mode = np.zeros(len(self._out.q), dtype=np.uint8)
        mode[:_COUNT] = 1
        self._out.mode = mode
        self._out.temperature[:_COUNT] = 35
        self._out.vol[:_COUNT] = 54.0
        self._rows = ((Q, self._in.q), (DQ, self._in.dq), (TAU, self._in.tau), (KP, self._in.kp), (KD, self._in.kd))
        self.mode_machine = mode_machine
        self.accepted = 0
        self.refused = 0
        self.refusal = ''

    def press(self, keys: int) -> None:
        """Hold down these buttons of the remote (0: none)."""
        self._out.wireless_remote[2] = keys & 0xFF
        self._out.wireless_remote[3] = keys >> 8

    @property
    def damaged(self) -> int:
        """Commands whose size or CRC was wrong."""
        return self._transport.damaged_commands

    def receive(self) -> bool:
        """Take over the newest command if there is one and the robot would obey it."""
        if not self._transport.poll_command(self._in):
            return False
        incoming = self._in
        if incoming.mode_machine != self.mode_machine:
            return self._refuse(f'mode_machine is {incoming.mode_machine}; expected {self.mode_machine}')
        if incoming.mode_pr != MODE_PR:
            return self._refuse(f'mode_pr is {incoming.mode_pr}; expected {MODE_PR}')
        command = self._motors.command
        # A non-finite number anywhere makes the sum non-finite; huge finite ones cannot overflow in double precision.
        if not np.isfinite(sum(float(view[:_COUNT].sum(dtype=np.float64)) for _, view in self._rows)):
            return self._refuse('a motor command is not finite')
        for row, view in self._rows:
            command[row] = view[:_COUNT]
        enabled = incoming.mode[:_COUNT] == 1
        if not enabled.all():
            command[:, ~enabled] = 0.0
        self.accepted += 1
        self._motors.accept()
        return True

    def _refuse(self, why: str) -> bool:
        self.refused += 1
        self.refusal = why
        return False

    def send(self, tick: int, sensors: Sensors) -> None:
        """Send the state of this millisecond."""
        out = self._out
        out.tick = tick
        out.q[:_COUNT] = sensors.joint_pos
        out.dq[:_COUNT] = sensors.joint_vel
        out.tau_est[:_COUNT] = sensors.torque
        w, x, y, z = out.quaternion[:] = sensors.quat
        out.gyroscope[:] = sensors.gyro
        out.accelerometer[:] = sensors.accel
        out.rpy[0] = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
        out.rpy[1] = np.arcsin(min(1.0, max(-1.0, 2 * (w * y - z * x))))
        out.rpy[2] = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        self._transport.send_state(out)
