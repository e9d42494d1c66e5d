"""Scenes: order of actuators, contacts, bounce, rolling, drag."""

import mujoco
import numpy as np
import pytest

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.restitution import bounce_solref, drop_test
from humanx_description.scene import apply_drag, drag_table, scene

BALL = ObjectSpec('ball', 'sphere', (0.11,), mass=0.43, restitution=0.7, rolling_rate=0.2)


def test_actuators_are_in_motor_order_with_table_gains():
    model = scene()
    assert tuple(model.actuator(i).name for i in range(model.nu)) == robot.JOINT_NAMES
    assert (model.actuator_trnid[:, 0] == np.arange(1, 30)).all()
    np.testing.assert_allclose(model.actuator_gainprm[:, 0], robot.KP)
    np.testing.assert_allclose(-model.actuator_biasprm[:, 2], robot.KD)
    np.testing.assert_allclose(model.actuator_forcerange[:, 1], robot.EFFORT_LIMIT)


def test_default_pose_stands_on_the_floor():
    model = scene()
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    soles = [data.geom(f'{side}_foot{i}_collision').xpos[2] - 0.01 for side in ('left', 'right') for i in (2, 6)]
    assert np.abs(soles).max() < 1e-3


@pytest.mark.parametrize('timestep', [0.001, 0.005])
@pytest.mark.parametrize('restitution', [0.3, 0.5, 0.81])
def test_drop_test_gives_the_wanted_restitution(restitution, timestep):
    assert drop_test(bounce_solref(restitution, timestep), timestep) == pytest.approx(restitution, abs=0.02)


@pytest.mark.parametrize('timestep', [0.001, 0.005])
def test_dropped_ball_in_the_scene_rebounds_to_the_wanted_height(timestep):
    model = scene([BALL], timestep=timestep)
    data = mujoco.MjData(model)
    ratios = []
    # One drop depends on where between two steps the ball touches: average over heights.
    for height in np.linspace(1.0, 1.05, 8):
        mujoco.mj_resetDataKeyframe(model, data, 0)
        data.qpos[36:39] = [3.0, 0.0, 0.11 + height]
        rebound, touched = 0.0, False
        for _ in range(int(0.9 / timestep)):
            mujoco.mj_step(model, data)
            touched |= bool(data.qpos[38] < 0.12)
            if touched:
                rebound = max(rebound, data.qpos[38] - 0.11)
        ratios.append(np.sqrt(rebound / height))
    assert np.mean(ratios) == pytest.approx(0.7, abs=0.02)


def test_rolling_speed_decays_at_the_stated_rate():
    model = scene([BALL])
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.qpos[36:39] = [3.0, 0.0, 0.1099]
    data.qvel[35], data.qvel[39] = 1.0, 1.0 / 0.11
    for _ in range(200):
        mujoco.mj_step(model, data)
    assert data.qvel[35] == pytest.approx(np.exp(-0.2), abs=0.02)


def test_shuttlecock_falls_at_its_terminal_speed():
    cock = ObjectSpec('cock', 'shuttlecock', (0.085, 0.033), mass=0.005, drag_length=4.6)
    model = scene([cock], timestep=0.002)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.qpos[36:39] = [3.0, 0.0, 40.0]
    table = drag_table(model, [cock])
    for _ in range(1500):
        apply_drag(model, data, table)
        mujoco.mj_step(model, data)
    assert -data.qvel[37] == pytest.approx(np.sqrt(9.81 * 4.6), rel=0.01)


def test_self_collision_is_a_choice():
    def legs_touch(self_collision):
        model = scene(self_collision=self_collision)
        data = mujoco.MjData(model)
        mujoco.mj_resetDataKeyframe(model, data, 0)
        data.qpos[2] = 2.0
        data.joint('left_hip_roll_joint').qpos = -0.5
        data.joint('right_hip_roll_joint').qpos = 0.5
        mujoco.mj_forward(model, data)
        return data.ncon > 0

    assert legs_touch(True)
    assert not legs_touch(False)


def test_a_mesh_object_is_a_convex_hull_in_metres(tmp_path):
    import trimesh

    path = tmp_path / 'cup.stl'
    trimesh.creation.cylinder(radius=0.05, height=0.2).export(path)
    model = scene([ObjectSpec('cup', 'mesh', (1.0,), mesh=path, mass=0.3)])
    assert model.body('cup').mass[0] == pytest.approx(0.3)
    trimesh.creation.cylinder(radius=50, height=200).export(path)
    with pytest.raises(UserError, match='millimetres'):
        scene([ObjectSpec('cup', 'mesh', (1.0,), mesh=path)])


def test_two_objects_of_one_name_are_refused():
    with pytest.raises(UserError, match='names'):
        scene([BALL, BALL])


@pytest.mark.parametrize(
    ('field', 'value'),
    [('mass', 0.0), ('size', (1.0, 2.0)), ('restitution', 1.5), ('friction', -1.0)],
)
def test_impossible_objects_are_refused(field, value):
    values = {'name': 'ball', 'shape': 'sphere', 'size': (0.1,)} | {field: value}
    with pytest.raises(ValueError, match=field):
        ObjectSpec(**values)
