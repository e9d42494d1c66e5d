"""Retargeting: what a controller needs of a motion, on a synthetic person and on real recordings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from humanx_description.errors import UserError
from humanx_description.robot import DEFAULT_JOINT_POS, JOINT_LOWER, JOINT_UPPER, VELOCITY_LIMIT
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.extract.detect import extract
from humanx_training.xgen.retarget import limits
from humanx_training.xgen.retarget.footing import FootingRule, detect_stance, runs
from humanx_training.xgen.retarget.keypoints import hand_axes
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose
from humanx_training.xgen.retarget.metrics import measure, support_margin
from humanx_training.xgen.retarget.pipeline import RetargetConfig, at_rate, retarget
from humanx_training.xgen.retarget.plan import ANKLE_ABOVE_SOLE, STANCE_WIDTH, stance_place
from humanx_training.xgen.retarget.stance import balanced_stance
from humanx_training.xgen.robot_motion import load_robot_motion


def check(result, tilt=2.0, skate=1.0, keypoint=5.0):
    """The promises of the retargeting, worst case over the motion."""
    motion = result.motion
    figures = measure(motion, result.plan.targets)
    assert figures.keypoint_mean_cm < keypoint
    assert figures.skate_cm_per_100ms < skate
    assert figures.tilt_deg < tilt
    assert figures.float_mm < 5
    assert figures.sink_mm < 5
    assert figures.self_penetration_mm < 5
    assert figures.range_excess_rad == 0
    assert figures.speed_ratio <= 1
    assert figures.arm_locked_share == 0
    for frame in (0, motion.num_frames - 1):
        assert support_margin(motion, frame) > 0.03, 'the stance is not balanced'
        assert motion.foot_contact[frame].all()
    return figures


@pytest.fixture(scope='module')
def lifted():
    """The synthetic person of conftest, retargeted once for the whole module."""
    made = {}

    def build(person):
        if not made:
            made['it'] = retarget(person, RetargetConfig(stance_before=0.8, stance_after=0.6))
        return made['it']

    return build


def test_synthetic_person(person, lifted):
    result = lifted(person)
    motion = result.motion
    check(result)
    assert motion.foot_contact[:, 1].all(), 'the right foot never lifts'
    swings = runs(~motion.foot_contact[:, 0])
    assert len(swings) == 1, 'the left foot lifts once'
    start, stop = swings[0]
    assert 0.3 < (stop - start) / motion.fps < 0.8
    # The stances last what was asked for, and are still.
    still = np.abs(np.diff(motion.joint_pos, axis=0)).max(axis=1) == 0
    assert still[: round(0.8 * motion.fps) - 1].all()
    assert still[-round(0.6 * motion.fps) + 1 :].all()
    assert not still[round(0.8 * motion.fps) + 2]
    # The stance is default-like, and the entry leaves it without a jerk.
    assert np.abs(motion.joint_pos[0] - DEFAULT_JOINT_POS).max() < 0.35
    assert np.abs(np.diff(motion.joint_pos, 2, axis=0)).max() * motion.fps**2 < 150


def test_right_arm_goes_up_and_left_arm_does_not(person, lifted):
    result = lifted(person)
    motion = result.motion
    kin = Kinematics()
    kin.update(Pose(motion.root_pos, rot.quat_to_mat(motion.root_quat), motion.joint_pos))
    clip = slice(motion.clip_start, motion.clip_stop)
    right = kin.pos[clip, kin.body_index['right_wrist_yaw_link'], 2]
    left = kin.pos[clip, kin.body_index['left_wrist_yaw_link'], 2]
    assert right[-1] - right[0] > 0.25
    assert abs(left[-1] - left[0]) < 0.05


def test_real_kick_before_and_after_refinement(data):
    result = retarget(extract(data / 'smpl/kick_level1.npz'))
    after = check(result)
    assert after.peak_speed_kept > 0.85, 'the strike is kept'
    before = measure(result.unrefined, result.plan.targets)
    assert before.self_penetration_mm > 5 > after.self_penetration_mm
    assert after.keypoint_mean_cm < before.keypoint_mean_cm + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    [
        'walk_level3',
        'CR7_level1',
        'Kobe_level1',
        'TigerWoods_level1',
        'kick_level2',
        'lebron1',
        'shoot_level1',
        'shoot_level2',
        'side_jump_level1',
        'squat_level1',
        'step_forward_forward_level1',
        'walk_level1',
    ],
)
def test_all_smpl(data, name):
    check(retarget(extract(data / f'smpl/{name}.npz')))


def test_a_leap_with_a_ball_brings_the_ball_along(data):
    human = extract(data / 'ballplay/shot_001.pt')
    result = retarget(human)
    motion = result.motion
    check(result)
    assert not motion.foot_contact[motion.clip_start : motion.clip_stop].any(axis=1).all(), 'the jump is in the plan'
    kin = Kinematics()
    kin.update(Pose(motion.root_pos, rot.quat_to_mat(motion.root_quat), motion.joint_pos))
    palms = [kin.point(kin.body_index[f'{s}_wrist_yaw_link'], np.array([0.08, 0, 0])) for s in ('left', 'right')]
    held = motion.captured.contact.copy()
    held[: motion.clip_start] = held[motion.clip_stop :] = False
    gap = np.linalg.norm(np.stack(palms) - motion.captured.pos, axis=2).min(axis=0)
    assert gap[held].mean() < 0.2, 'the ball stays near the hands that hold it'


# Parts ----------------------------------------------------------------------------------------------------------------
def test_footing_finds_the_lifted_foot(person):
    stance = detect_stance(person)
    assert stance[:, 1].all()
    ((start, stop),) = runs(~stance[:, 0])
    assert 0.7 < start / person.fps < 1.0
    assert 1.0 < stop / person.fps < 1.35


def test_footing_bridges_a_short_shuffle_but_not_a_jump(person):
    pos = person.pos.copy()
    lift = np.zeros(len(pos))
    lift[10:13] = 0.07
    feet = [7, 8, 10, 11]
    pos[:, feet, 2] += lift[:, None]
    both_up = detect_stance(replace(person, pos=pos), FootingRule(max_gap=0.01, min_stance=0.0))
    assert not both_up[11].any()
    pos = person.pos.copy()
    pos[:, [7, 10], 2] += lift[:, None]
    assert detect_stance(replace(person, pos=pos))[8:15, 0].all(), 'a 0.1 s lift in place is no step'


def test_hands_in_the_t_pose_frame():
    for side, sign in (('left', 1.0), ('right', -1.0)):
        axes = hand_axes(side)
        np.testing.assert_allclose(axes.T @ axes, np.eye(3))
        assert np.linalg.det(axes) == pytest.approx(1)
        np.testing.assert_allclose(axes[:, 0], [0, sign, 0])  # fingers point sideways
        np.testing.assert_allclose(-sign * axes[:, 1], [0, 0, -1])  # the palm looks down


@pytest.mark.parametrize('apart', [0.20, 0.45])
@pytest.mark.parametrize('yaw', [0.0, 2.0])
def test_balanced_stance_on_any_feet(apart, yaw):
    turn = rot.rot_z(np.array(yaw))
    pos = np.array([[0.05, apart / 2, ANKLE_ABOVE_SOLE], [-0.05, -apart / 2, ANKLE_ABOVE_SOLE]]) @ turn.T
    kin = Kinematics()
    pose = balanced_stance(kin, pos, np.stack([turn, turn]))
    kin.update(pose)
    for side, body in enumerate(('left_ankle_roll_link', 'right_ankle_roll_link')):
        index = kin.body_index[body]
        assert np.linalg.norm(kin.pos[0, index] - pos[side] + [0, 0, ANKLE_ABOVE_SOLE - 0.035]) < 1e-3
        assert kin.mat[0, index, 2, 2] > np.cos(np.deg2rad(0.5))
    middle = pos[:, :2].mean(axis=0)
    ahead = turn[:2, 0] @ (kin.com()[0, :2] - middle)
    assert 0.0 < ahead < 0.08, 'over the soles, which reach further forward than back'


@pytest.mark.parametrize('side', [0, 1])
def test_a_step_lands_beside_the_other_foot_on_its_own_side(side):
    sign = 1 if side == 0 else -1
    base = np.array([1.0, 2.0, ANKLE_ABOVE_SOLE])
    turn = rot.rot_z(np.array(0.7))
    for wild in ([0.6, 0.1, 0.3], [-0.5, -0.6, 0.2], [0.0, 0.8, 0.1]):
        place, _ = stance_place(base + turn @ np.array(wild), turn, base, turn, side)
        local = turn.T @ (place - base)
        assert STANCE_WIDTH[0] - 1e-9 <= sign * local[1] <= STANCE_WIDTH[1] + 1e-9
        assert place[2] == ANKLE_ABOVE_SOLE


def test_limits_are_inside_the_hardware():
    assert (limits.LOWER >= JOINT_LOWER).all()
    assert (limits.UPPER <= JOINT_UPPER).all()
    assert (limits.SPEED < VELOCITY_LIMIT).all()


def test_the_stance_lengths_may_be_zero_but_not_negative(person):
    assert retarget(person, RetargetConfig(stance_before=0, stance_after=0)).motion.duration < 4.4
    with pytest.raises(UserError, match='stance_before is -1'):
        RetargetConfig(stance_before=-1.0)


def test_a_person_who_never_stands_is_refused(person):
    pos = person.pos.copy()
    pos[..., 0] += np.linspace(0, 12, len(pos))[:, None]  # gliding at 6 m/s
    with pytest.raises(UserError, match='never stand on the floor'):
        retarget(replace(person, pos=pos))


# The file -------------------------------------------------------------------------------------------------------------
def test_round_trip_and_resampling(person, lifted, tmp_path):
    motion = lifted(person).motion
    motion.save(tmp_path / 'r.npz')
    back = load_robot_motion(tmp_path / 'r.npz')
    np.testing.assert_array_equal(back.qpos(), motion.qpos())
    assert (back.clip_start, back.clip_stop) == (motion.clip_start, motion.clip_stop)
    fine = at_rate(motion, 100.0)
    assert fine.num_frames == 2 * motion.num_frames - 1
    np.testing.assert_allclose(fine.qpos()[::2], motion.qpos(), atol=1e-9)
    assert (fine.joint_pos >= limits.LOWER - 1e-9).all()
    assert (fine.joint_pos <= limits.UPPER + 1e-9).all()
    assert abs(fine.clip_start - 2 * motion.clip_start) <= 1
    # A planted foot stays planted between the frames.
    kin = Kinematics()
    kin.update(Pose(fine.root_pos, rot.quat_to_mat(fine.root_quat), fine.joint_pos))
    foot = kin.pos[:, kin.body_index['right_ankle_roll_link']]
    assert np.linalg.norm(foot - foot[0], axis=1).max() < 0.003


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'joint_pos': None}, "'joint_pos' is missing"),
        ({'joint_names': np.array(['x'] * 29)}, 'joint_names differ'),
        ({'fps': np.array(0.0)}, 'fps is 0'),
        ({'root_quat': np.zeros((5, 4))}, 'root_quat has shape'),
        ({'clip_stop': np.array(10**6)}, 'are outside'),
        ({'format': np.array('humanx_human_motion')}, 'field format'),
    ],
)
def test_wrong_robot_motions(person, lifted, tmp_path, change, said):
    path = tmp_path / 'r.npz'
    lifted(person).motion.save(path)
    data = dict(np.load(path))
    for name, value in change.items():
        if value is None:
            del data[name]
        else:
            data[name] = value
    np.savez(path, **data)
    with pytest.raises(UserError, match=said):
        load_robot_motion(path)
