"""The clip check: a sound clip passes; each way a clip can be wrong is called by its name."""

import dataclasses

import numpy as np
import pytest

from humanx_description.scene import default_qpos
from humanx_training import rotation
from humanx_training.clip import InteractionClip, Phase
from humanx_training.xgen.check import check
from humanx_training.xgen.flight import BodyState, World
from humanx_training.xgen.interleave import to_interleaved
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface

FRAMES, FPS = 120, 100.0


@pytest.fixture(scope='module')
def stage():
    return Stage()


@pytest.fixture
def clip():
    rest = default_qpos()
    shape = {'shape': 'sphere', 'size': [0.11], 'mass': 0.43, 'restitution': 0.7}
    made = InteractionClip(
        fps=FPS,
        root_pos=np.tile(rest[:3], (FRAMES, 1)),
        root_quat=np.tile(rest[3:7], (FRAMES, 1)),
        joint_pos=np.tile(rest[7:36], (FRAMES, 1)),
        object_name='ball',
        object_shape=shape,
        object_pos=np.tile([3.0, 0, 1.0], (FRAMES, 1)),
        object_quat=np.tile([1.0, 0, 0, 0], (FRAMES, 1)),
        contact=np.zeros((FRAMES, 2), dtype=bool),
        contact_bodies=('left_wrist_yaw_link', 'right_wrist_yaw_link'),
    )
    start = BodyState(np.array([2.5, 0, 0.5]), np.array([1.0, 0, 0, 0]), np.array([0.5, 0.3, 5.0]), np.zeros(3))
    path = World(made.object_spec()).forward(start, FRAMES, FPS)
    return dataclasses.replace(
        made, object_pos=path.pos, object_quat=path.quat, phases=(Phase('flight', 0, FRAMES),)
    )


def change(clip, **fields):
    return dataclasses.replace(clip, **fields)


def shift(clip, z):
    return change(clip, root_pos=clip.root_pos + [0, 0, z])


def test_a_sound_clip_passes(clip, stage):
    report = check(clip, stage=stage)
    assert report.good, report.problems
    assert report.measures['sole_height_median'] < 0.02


def ramp(clip, rate):
    return np.linspace(0, rate * FRAMES / FPS, FRAMES)[:, None] * [1.0, 0, 0]


def jump(x, frame, by):
    x = x.copy()
    x[frame:] += by
    return x


def bent(clip, joint, value):
    q = clip.joint_pos.copy()
    q[:, joint] = value
    return q


WRONG = {
    'metres': lambda c: change(c, root_pos=c.root_pos * 1000),
    'radians': lambda c: change(c, joint_pos=np.degrees(c.joint_pos)),
    'w first': lambda c: change(c, root_quat=rotation.multiply(rotation.from_yaw(2.5), c.root_quat)[:, [1, 2, 3, 0]]),
    'z up': lambda c: change(
        c, root_pos=c.root_pos[:, [0, 2, 1]] * [1, 1, -1],
        root_quat=rotation.multiply(rotation.exp(np.array([-np.pi / 2, 0, 0])), c.root_quat)),
    'interleave': lambda c: change(c, joint_pos=to_interleaved(bent(c, 3, 1.9))),
    'float': lambda c: shift(c, 0.06),
    'sinks': lambda c: shift(c, -0.05),
    'slides': lambda c: change(c, root_pos=c.root_pos + ramp(c, 0.6)),
    'beyond its range': lambda c: change(c, joint_pos=bent(c, 18, 2.3)),
    'jumps by': lambda c: change(c, joint_pos=jump(c.joint_pos, 60, 0.36)),
    'pelvis changes its velocity': lambda c: change(c, root_pos=jump(c.root_pos, 60, 0.05)),
    'though nothing touches it': lambda c: change(c, object_pos=jump(c.object_pos, 60, 0.05)),
    'inside torso_link': lambda c: change(c, object_pos=c.root_pos + [0.05, 0, 0.25]),
    'inside the floor': lambda c: change(c, object_pos=c.object_pos * [1, 1, 0] + [0, 0, 0.05]),
    'contact labels differ': lambda c: change(c, contact=~c.contact),
    'gains': lambda c: change(
        c, object_pos=c.object_pos * [1, 1, 0] + np.linspace(1, 3, FRAMES)[:, None] * [0, 0, 1]),
}  # fmt: skip


@pytest.mark.parametrize('words', WRONG)
def test_what_is_wrong_is_said(clip, stage, words):
    report = check(WRONG[words](clip), stage=stage)
    assert any(words in p for p in report.problems), report.problems
    assert all(p.endswith('.') for p in report.problems)


def test_mirrored_joints_are_noticed(clip, stage):
    # The left hip rolls outward by 2.5 rad: a mirrored file has that on a joint that reaches only 0.52.
    joints = bent(clip, 1, -2.5)
    report = check(change(clip, joint_pos=joints), stage=stage)
    assert any('mirrored' in p for p in report.problems), report.problems


def test_a_strike_may_compress_what_a_hold_may_not(clip, stage):
    surface = Surface.of(clip.object_spec())
    ahead = np.linspace(0.1, 0.6, FRAMES)
    near = _at(clip, ahead)
    depth = -stage.distances(clip.qpos()[:, :36], surface, near, clip.object_quat).min(axis=1)
    place = np.interp(-0.02, -depth, ahead)  # 2 cm inside the trunk
    # It comes at 1.5 m/s, is thrown back at 1.5 m/s: inside for some 3 hundredths of a second.
    bounced = place + 1.5 * np.abs(np.arange(FRAMES) - 60) / FPS
    said = [p for p in check(change(clip, object_pos=_at(clip, bounced)), stage=stage).problems if 'inside' in p]
    assert said == []
    held = np.full(FRAMES, place)
    said = [p for p in check(change(clip, object_pos=_at(clip, held)), stage=stage).problems if 'inside' in p]
    assert len(said) == 1
    assert '20 mm inside' in said[0]
    deep = bounced - 0.05
    said = [p for p in check(change(clip, object_pos=_at(clip, deep)), stage=stage).problems if 'inside' in p]
    assert len(said) == 1


def _at(clip, ahead):
    return clip.root_pos + np.stack([ahead, 0 * ahead, 0 * ahead + 0.25], 1)
