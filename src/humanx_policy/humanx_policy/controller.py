"""Observation history, network and targets in one object, without ROS.

The policy node drives it with messages, offline evaluation with a simulator's state: both run the
same code.
"""

import time
from dataclasses import dataclass

import numpy as np

from humanx_description import robot
from humanx_policy import observation as ob
from humanx_policy.runtime import PolicyRuntime


@dataclass
class RobotSample:
    """The robot's own state at one tick: rad, rad/s, the pelvis frame, w first."""

    base_ang_vel: np.ndarray  # (3,) of the pelvis gyroscope
    root_quat: np.ndarray  # (4,) of the pelvis; yaw is not used
    joint_pos: np.ndarray  # (29,)
    joint_vel: np.ndarray  # (29,)


@dataclass
class ObjectsSample:
    """Where motion capture sees the pelvis and the policy's K objects, world frame, metres, w
    first.

    ``pelvis_tracked`` false masks every object: without the pelvis now there is no heading frame
    now, and a position relative to where the robot was is wrong by however far it has moved since.
    """

    pelvis_pos: np.ndarray  # (3,)
    pelvis_quat: np.ndarray  # (4,)
    pelvis_tracked: bool
    object_pos: np.ndarray  # (K, 3), in the order of the policy's object_roles
    tracked: np.ndarray  # (K,) bool

    @classmethod
    def none_tracked(cls, num_objects: int) -> 'ObjectsSample':
        """Return a sample in which nothing is seen."""
        return cls(
            np.zeros(3), np.array([1.0, 0, 0, 0]), False,
            np.zeros((num_objects, 3)), np.zeros(num_objects, dtype=bool),
        )  # fmt: skip


class NonFiniteActionError(RuntimeError):
    """The network returned a number that is no target."""


class PolicyController:
    """Turns one state into joint targets, keeping the history that the policy was trained with."""

    def __init__(self, runtime: PolicyRuntime) -> None:
        self.runtime = runtime
        metadata = runtime.metadata
        self._default, self._scale = metadata.default_joint_pos, metadata.action_scale
        self._history = ob.ObservationHistory(runtime.layout)
        self._last_action = np.zeros((1, robot.NUM_JOINTS))
        self.num_objects = len(metadata.object_roles)
        self.inference_s = 0.0  # of the last step, the network alone

    def reset(self) -> None:
        """Start an episode: the next step's frame fills the history, the last action is zero."""
        self._history.reset()
        self._last_action[:] = 0.0

    def step(self, state: RobotSample, objects: ObjectsSample | None = None) -> np.ndarray:
        """Return position targets (29,) rad for one control tick.

        ``objects`` is needed by a MoCap policy and ignored by a NEP policy. Raises
        :class:`NonFiniteActionError`, after which :meth:`reset` is due.
        """
        terms = ob.proprioception(
            base_ang_vel=state.base_ang_vel[None],
            root_quat=state.root_quat[None],
            joint_pos=state.joint_pos[None],
            joint_vel=state.joint_vel[None],
            last_action=self._last_action,
            default_joint_pos=self._default,
            action_scale=self._scale,
        )
        if self.num_objects:
            if objects is None:
                objects = ObjectsSample.none_tracked(self.num_objects)
            terms |= ob.object_observation(
                root_pos=objects.pelvis_pos[None],
                root_quat=objects.pelvis_quat[None],
                object_pos=objects.object_pos[None],
                tracked=objects.tracked[None] & objects.pelvis_tracked,
            )
        self._history.push(terms)
        self._history.vector(self.runtime.observation)
        start = time.perf_counter()
        action = self.runtime.act()
        self.inference_s = time.perf_counter() - start
        if not np.isfinite(action).all():
            joint = robot.JOINT_NAMES[int(np.argmin(np.isfinite(action[0])))]
            raise NonFiniteActionError(f'The policy returned a non-finite action for {joint}.')
        self._last_action[:] = action
        return ob.joint_targets(self._last_action[0], self._default, self._scale)
