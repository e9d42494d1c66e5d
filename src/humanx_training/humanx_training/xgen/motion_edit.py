"""Small edits of robot motions: holding a pose, joining pieces, bringing a clip to the origin."""

from __future__ import annotations

import dataclasses

import numpy as np

from humanx_description import robot
from humanx_training import rotation
from humanx_training.xgen.robot_motion import RobotMotion


def padded(motion: RobotMotion, before: int, after: int) -> RobotMotion:
    """Return the motion with its first pose held ``before`` frames longer and its last ``after`` frames."""
    if before <= 0 and after <= 0:
        return motion
    width = (max(before, 0), max(after, 0))

    def pad(x: np.ndarray) -> np.ndarray:
        return np.pad(x, (width, *[(0, 0)] * (x.ndim - 1)), mode='edge')

    captured = motion.captured
    if captured is not None:
        captured = dataclasses.replace(
            captured, pos=pad(captured.pos), quat=pad(captured.quat), contact=pad(captured.contact)
        )
    return dataclasses.replace(
        motion,
        root_pos=pad(motion.root_pos),
        root_quat=pad(motion.root_quat),
        joint_pos=pad(motion.joint_pos),
        foot_contact=pad(motion.foot_contact),
        clip_start=motion.clip_start + width[0],
        clip_stop=motion.clip_stop + width[0],
        captured=captured,
    )


def moved(motion: RobotMotion, yaw: float, shift: np.ndarray) -> RobotMotion:
    """Return the motion turned about the world's z by ``yaw`` (rad), then shifted (3,) m."""
    turn = rotation.from_yaw(yaw)
    captured = motion.captured
    if captured is not None:
        captured = dataclasses.replace(
            captured,
            pos=rotation.rotate(turn, captured.pos) + shift,
            quat=rotation.multiply(turn, captured.quat),
        )
    return dataclasses.replace(
        motion,
        root_pos=rotation.rotate(turn, motion.root_pos) + shift,
        root_quat=rotation.multiply(turn, motion.root_quat),
        captured=captured,
    )


def at_origin(motion: RobotMotion) -> RobotMotion:
    """Return the motion with the first frame's pelvis above the origin, heading along x."""
    yaw = float(rotation.yaw(motion.root_quat[0]))
    turned = rotation.rotate(rotation.from_yaw(-yaw), motion.root_pos[0])
    return moved(motion, -yaw, np.array([-turned[0], -turned[1], 0.0]))


def arms_held(motion: RobotMotion, *, before: bool, after: bool) -> RobotMotion:
    """Return the motion whose arms keep the clip's first pose before it and its last pose after it.

    Stances bring the arms to the robot's sides; somebody who holds an object does not do that.
    """
    joints = motion.joint_pos.copy()
    arms = slice(robot.LEFT_ARM.start, robot.RIGHT_ARM.stop)
    if before:
        joints[: motion.clip_start, arms] = joints[motion.clip_start, arms]
    if after:
        joints[motion.clip_stop :, arms] = joints[motion.clip_stop - 1, arms]
    return dataclasses.replace(motion, joint_pos=joints)


def still_wrists(motion: RobotMotion) -> RobotMotion:
    """Return the motion with straight wrists (roll, pitch and yaw 0).

    A video does not show how a wrist turns, and half a metre of racket multiplies its errors.
    """
    joints = motion.joint_pos.copy()
    for side in ('left', 'right'):
        for axis in ('pitch', 'yaw'):
            joints[:, robot.JOINT_INDEX[f'{side}_wrist_{axis}_joint']] = 0.0
        joints[:, robot.JOINT_INDEX[f'{side}_wrist_roll_joint']] = 0.0
    return dataclasses.replace(motion, joint_pos=joints)
