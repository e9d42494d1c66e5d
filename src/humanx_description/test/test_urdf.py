import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mujoco
import numpy as np
import pytest

from humanx_description import robot, urdf
from humanx_description.assets import g1_urdf
from humanx_description.errors import UserError
from humanx_description.scene import scene


def test_every_mesh_of_the_description_is_a_file():
    root = ElementTree.fromstring(urdf.robot_description())
    meshes = [mesh.get('filename') for mesh in root.iter('mesh')]
    assert len(meshes) >= 29
    for mesh in meshes:
        assert mesh.startswith('file:///')
        assert Path(mesh.removeprefix('file://')).is_file()


def test_limits_agree_with_the_joint_table():
    root = ElementTree.parse(g1_urdf()).getroot()
    for joint in root.findall('joint'):
        if joint.get('name') in robot.JOINT_INDEX:
            index = robot.JOINT_INDEX[joint.get('name')]
            limit = joint.find('limit')
            assert float(limit.get('lower')) == pytest.approx(robot.JOINT_LOWER[index], abs=2e-3)
            assert float(limit.get('upper')) == pytest.approx(robot.JOINT_UPPER[index], abs=2e-3)


def test_link_poses_agree_with_mujoco():
    frames = urdf.frames()
    model = scene()
    data = mujoco.MjData(model)
    rng = np.random.default_rng(3)
    joint_pos = rng.uniform(robot.JOINT_LOWER, robot.JOINT_UPPER)
    data.qpos[7:36] = joint_pos
    mujoco.mj_kinematics(model, data)

    pose = {'pelvis': (data.body('pelvis').xpos.copy(), np.array([1.0, 0, 0, 0]))}
    quats = frames.quat(joint_pos)
    for (parent, child), pos, quat in zip(frames.moving, frames.moving_pos, quats):
        parent_pos, parent_quat = pose[parent]
        turned = np.zeros(3)
        mujoco.mju_rotVecQuat(turned, pos, parent_quat)
        pose[child] = (parent_pos + turned, urdf._multiply(parent_quat, quat))
    assert len(pose) == 30
    for link, (pos, quat) in pose.items():
        np.testing.assert_allclose(pos, data.body(link).xpos, atol=2e-3, err_msg=link)
        assert abs(np.dot(quat, data.body(link).xquat)) == pytest.approx(1.0, abs=1e-5), link


def test_a_missing_mesh_is_named(tmp_path):
    path = tmp_path / 'robot.urdf'
    path.write_text('<robot name="x"><link name="a"><visual><mesh filename="gone.STL"/></visual></link></robot>')
    with pytest.raises(UserError, match=r'gone\.STL'):
        urdf.robot_description(path)


def test_a_robot_without_the_joints_is_refused(tmp_path):
    path = tmp_path / 'robot.urdf'
    path.write_text('<robot name="x"><link name="a"/></robot>')
    with pytest.raises(UserError, match='left_hip_pitch_joint'):
        urdf.frames(path)


def test_a_named_urdf_must_exist(monkeypatch):
    monkeypatch.setenv('HUMANX_G1_URDF', '/nowhere/robot.urdf')
    with pytest.raises(UserError, match=r'/nowhere/robot\.urdf'):
        g1_urdf()
