"""Simulated trials of a balancing policy through the deployment code, at 1 kHz with delay and
noise.

For design and tests of the ``stand`` policy; needs MuJoCo, which the robot does not have.
"""

from collections import deque
from dataclasses import dataclass

import mujoco
import numpy as np

from humanx_description import robot
from humanx_description.scene import scene
from humanx_policy.controller import PolicyController, RobotSample
from humanx_policy.metadata import CONTROL_PERIOD
from humanx_policy.runtime import PolicyRuntime

TIMESTEP = 0.001
FALLEN_HEIGHT = 0.5  # m, of the pelvis
FALLEN_TILT = np.deg2rad(45)


@dataclass(frozen=True)
class Push:
    """A sudden change of the pelvis' velocity (m/s, world x and y) at a time (s)."""

    velocity: tuple[float, float] = (0.0, 0.0)
    time: float = 2.0

    @classmethod
    def random(cls, rng: np.random.Generator, speed: float) -> 'Push':
        """Return a push of that speed in a random direction between 1 and 3 s."""
        angle = rng.uniform(0, 2 * np.pi)
        return cls((speed * np.cos(angle), speed * np.sin(angle)), rng.uniform(1, 3))


@dataclass(frozen=True)
class StandTrial:
    """How a trial ended: upright, and how far (m) the pelvis moved from the start in the horizontal."""

    upright: bool
    drift: float


def settle_qpos(qpos: np.ndarray) -> np.ndarray:
    """Return a standing start (36,): the default joints at the height of ``qpos``."""
    out = np.array(qpos)
    out[7:] = robot.DEFAULT_JOINT_POS
    return out


def run_trial(
    runtime: PolicyRuntime,
    start: np.ndarray,
    push: Push,
    *,
    seed: int,
    duration: float = 10.0,
    noise: float = 1.0,
    friction: float | None = None,
    payload: float = 0.0,
    state_age: float = 0.003,
    delay: float = 0.003,
) -> StandTrial:
    """Return how the robot fares for ``duration`` s.

    The policy sees states ``state_age`` s old, its targets act ``delay`` s later. ``noise`` scales
    sensor noise with standard deviations of 0.05 rad/s (gyro), 0.01 (gravity), 0.003 rad and 0.15
    rad/s (joints).
    """
    model, controller = _model(friction, payload), PolicyController(runtime)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(seed)
    data.qpos[:] = start
    data.ctrl[:] = start[7:]
    states: deque = deque(maxlen=round(state_age / TIMESTEP) + 1)
    commands: deque = deque([start[7:].copy()] * (round(delay / TIMESTEP) + 1))
    every = round(CONTROL_PERIOD / TIMESTEP)
    targets = start[7:].copy()
    pushed = False
    for step in range(round(duration / TIMESTEP)):
        states.append((data.qpos[3:36].copy(), data.qvel[3:35].copy()))
        if not pushed and step * TIMESTEP >= push.time:
            data.qvel[:2] += push.velocity
            pushed = True
        if step % every == 0:
            pose, velocity = states[0]
            targets = controller.step(_measure(pose, velocity, rng, noise)).copy()
        commands.append(np.clip(targets, robot.TARGET_LOWER, robot.TARGET_UPPER))
        data.ctrl[:] = commands.popleft()
        mujoco.mj_step(model, data)
        if step % every == 0 and _fallen(data.qpos):
            return StandTrial(False, float('inf'))
    return StandTrial(True, float(np.linalg.norm(data.qpos[:2] - start[:2])))


def _model(friction: float | None, payload: float) -> mujoco.MjModel:
    model = scene(timestep=TIMESTEP)
    if friction is not None:
        feet = [model.body(name).id for name in robot.FOOT_BODIES]
        model.geom_friction[np.isin(model.geom_bodyid, feet), 0] = friction
    model.body_mass[model.body(robot.TORSO_BODY).id] += payload
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def _measure(pose: np.ndarray, velocity: np.ndarray, rng: np.random.Generator, noise: float) -> RobotSample:
    quat = pose[:4] + noise * 0.005 * rng.normal(size=4)
    return RobotSample(
        velocity[:3] + noise * 0.05 * rng.normal(size=3),
        quat / np.linalg.norm(quat),
        pose[4:] + noise * 0.003 * rng.normal(size=robot.NUM_JOINTS),
        velocity[3:] + noise * 0.15 * rng.normal(size=robot.NUM_JOINTS),
    )


def _fallen(qpos: np.ndarray) -> bool:
    upright = 1 - 2 * (qpos[4] ** 2 + qpos[5] ** 2)
    return bool(qpos[2] < FALLEN_HEIGHT or upright < np.cos(FALLEN_TILT))
