"""The joint table against the MJCF it describes."""

import subprocess
import sys

import mujoco
import numpy as np

from humanx_description import robot
from humanx_description.assets import g1_mjcf


def test_joint_table_matches_the_model():
    model = mujoco.MjModel.from_xml_path(str(g1_mjcf()))
    names = [model.joint(i + 1).name for i in range(robot.NUM_JOINTS)]
    assert tuple(names) == robot.JOINT_NAMES
    np.testing.assert_allclose(model.jnt_range[1:], np.stack([robot.JOINT_LOWER, robot.JOINT_UPPER], 1))


def test_known_motor_values():
    hip, wrist = (
        robot.JOINT_INDEX['left_hip_pitch_joint'],
        robot.JOINT_INDEX['right_wrist_yaw_joint'],
    )
    assert (robot.KP[hip].round(1), robot.KD[hip].round(2)) == (40.2, 2.56)
    assert (robot.KP[wrist].round(1), robot.KD[wrist].round(2)) == (16.8, 1.07)
    assert robot.EFFORT_LIMIT[robot.JOINT_INDEX['left_knee_joint']] == 139.0


def test_default_pose_is_within_limits_and_mirrored():
    assert (robot.DEFAULT_JOINT_POS > robot.JOINT_LOWER).all()
    assert (robot.DEFAULT_JOINT_POS < robot.JOINT_UPPER).all()
    left, right = robot.DEFAULT_JOINT_POS[robot.LEFT_ARM], robot.DEFAULT_JOINT_POS[robot.RIGHT_ARM]
    np.testing.assert_array_equal(left * [1, -1, -1, 1, -1, 1, -1], right)


def test_joint_table_imports_neither_mujoco_nor_torch():
    code = (
        'import sys; import humanx_description.robot; '
        'bad = {"mujoco", "torch"} & set(sys.modules); sys.exit(str(bad) if bad else 0)'
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_targets_may_press_a_joint_at_its_stop_only_softly():
    press = robot.KP * (robot.TARGET_UPPER - robot.JOINT_UPPER) / robot.EFFORT_LIMIT
    assert press.max() < 0.365
    roll = robot.JOINT_INDEX['left_ankle_roll_joint']
    assert robot.TARGET_UPPER[roll] - robot.JOINT_UPPER[roll] == 0.5
