"""The walk that brings the robot to an object that lies somewhere else."""

from __future__ import annotations

import dataclasses

import numpy as np

from humanx_training import rotation
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.contact_path import hold_path
from humanx_training.xgen.gait import GaitConfig, Place, walk
from humanx_training.xgen.motion_edit import at_origin, moved
from humanx_training.xgen.plan import ClipPlan, Infeasible
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface

_WALK_FPS = 50.0


def approach(motion: RobotMotion, plan: ClipPlan, stage: Stage, config: GaitConfig | None = None) -> RobotMotion:
    """Return a walk, then ``motion`` moved so that its object lies at ``plan.start_place``.

    ``start_place`` (2,) m is seen from the robot where it stands at first, x ahead. The robot approaches on the
    straight line from there, so the object is picked up with that heading. Raises :class:`Infeasible` when the object
    is so near that the robot would have to step back.
    """
    assert plan.start_place is not None
    motion = at_origin(motion)
    first = plan.contacts[0]
    start = motion.clip_start + round(first.start * motion.fps)
    qpos = motion.qpos()
    held = hold_path(stage, qpos, Surface.of(plan.spec), first, start, start + 1)
    reach = held.pos[0, :2]  # of the object, seen from the standing robot
    place = np.array(plan.start_place)
    distance, bearing = float(np.linalg.norm(place)), float(np.arctan2(place[1], place[0]))
    if distance < np.linalg.norm(reach) - 0.02:
        raise Infeasible(f'the object lies {distance:.2f} m off, nearer than the robot reaches from standing')
    # Turn the motion so that, moved along the bearing, its object comes to the place.
    yaw = bearing - float(np.arctan2(reach[1], reach[0]))
    shift = place - (rot.rot_z(np.array([yaw]))[0, :2, :2] @ reach)
    kin = Kinematics()
    quat = motion.root_quat[:1]
    standing = Pose(motion.root_pos[:1], rot.quat_to_mat(quat), motion.joint_pos[:1])
    kin.update(standing)
    feet = kin.pos[0, [kin.body_index[f'{s}_ankle_roll_link'] for s in ('left', 'right')], :2]
    turn = rot.rot_z(np.array([yaw]))[0, :2, :2]
    goal = Place(turn @ feet.mean(axis=0) + shift, yaw + float(rot.yaw_of(standing.mat)[0]))
    poses, planted = walk(kin, standing, goal, _WALK_FPS, config)
    walked = RobotMotion(
        fps=_WALK_FPS,
        root_pos=poses.pos,
        root_quat=rotation.continuous(rot.mat_to_quat(poses.mat)),
        joint_pos=poses.joints,
        foot_contact=planted,
    ).resample(motion.fps)
    there = moved(motion, yaw, np.append(shift, 0.0))
    return dataclasses.replace(
        there,
        root_pos=np.concatenate([walked.root_pos, there.root_pos]),
        root_quat=rotation.continuous(np.concatenate([walked.root_quat, there.root_quat])),
        joint_pos=np.concatenate([walked.joint_pos, there.joint_pos]),
        foot_contact=np.concatenate([walked.foot_contact, there.foot_contact]),
        clip_start=there.clip_start + walked.num_frames,
        clip_stop=there.clip_stop + walked.num_frames,
        captured=None,
    )
