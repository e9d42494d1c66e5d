"""What the simulated G1 measures: joint encoders and the pelvis IMU, with noise."""

import mujoco
import numpy as np

from humanx_description import robot
from humanx_g1_driver.sim.options import SensorNoise


class Sensors:
    """Reads one sample of every sensor from MuJoCo's state into preallocated arrays.

    After :meth:`read`: ``joint_pos``, ``joint_vel``, ``torque`` (29,), ``quat`` (4, w first, pelvis in world), ``gyro``
    and ``accel`` (3, pelvis frame, the acceleration including gravity).
    """

    def __init__(self, model: mujoco.MjModel, noise: SensorNoise, rng: np.random.Generator) -> None:
        self._gyro = _sensor_slice(model, 'imu_ang_vel')
        self._accel = _sensor_slice(model, 'imu_lin_acc')
        self._quat = _sensor_slice(model, 'imu_quat')
        count = robot.NUM_JOINTS
        scale = [noise.joint_pos] * count + [noise.joint_vel] * count
        scale += [noise.gyro] * 3 + [noise.accel] * 3 + [noise.orientation] * 3
        self._scale = np.array(scale)
        self._draw = np.zeros(len(scale))
        self._rng = rng
        self._noisy = bool(self._scale.any())
        self.joint_pos = np.zeros(count)
        self.joint_vel = np.zeros(count)
        self.torque = np.zeros(count)
        self.quat = np.array([1.0, 0.0, 0.0, 0.0])
        self.gyro = np.zeros(3)
        self.accel = np.zeros(3)

    def read(self, data: mujoco.MjData) -> None:
        """Take one sample."""
        count = robot.NUM_JOINTS
        np.clip(data.actuator_force[:count], -robot.EFFORT_LIMIT, robot.EFFORT_LIMIT, out=self.torque)
        self.joint_pos[:] = data.qpos[7 : 7 + count]
        self.joint_vel[:] = data.qvel[6 : 6 + count]
        sensors = data.sensordata
        self.quat[:] = sensors[self._quat]
        self.gyro[:] = sensors[self._gyro]
        self.accel[:] = sensors[self._accel]
        if not self._noisy:
            return
        draw = self._draw
        self._rng.standard_normal(out=draw)
        draw *= self._scale
        self.joint_pos += draw[:count]
        self.joint_vel += draw[count : 2 * count]
        self.gyro += draw[-9:-6]
        self.accel += draw[-6:-3]
        # q (1, e/2): a small rotation e in the pelvis frame.
        w, x, y, z = self.quat
        a, b, c = 0.5 * draw[-3], 0.5 * draw[-2], 0.5 * draw[-1]
        self.quat[0] = w - x * a - y * b - z * c
        self.quat[1] = x + w * a + y * c - z * b
        self.quat[2] = y + w * b + z * a - x * c
        self.quat[3] = z + w * c + x * b - y * a
        self.quat /= np.sqrt(self.quat @ self.quat)


def _sensor_slice(model: mujoco.MjModel, name: str) -> slice:
    sensor = model.sensor(name)
    start = int(sensor.adr[0])
    return slice(start, start + int(sensor.dim[0]))
