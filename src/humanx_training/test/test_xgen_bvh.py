"""BVH files: units, axes, names, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from humanx_description.errors import UserError
from humanx_training.xgen.extract.bvh import extract_bvh

# name, parent, offset in metres (y up, facing +z, the person's left is +x)
SKELETON = [
    ('Hips', None, (0, 0.95, 0)),
    ('Spine', 'Hips', (0, 0.12, 0)),
    ('Spine1', 'Spine', (0, 0.15, 0)),
    ('Neck', 'Spine1', (0, 0.25, 0)),
    ('Head', 'Neck', (0, 0.12, 0.03)),
    ('LeftShoulder', 'Spine1', (0.07, 0.2, 0)),
    ('LeftArm', 'LeftShoulder', (0.1, 0, 0)),
    ('LeftForeArm', 'LeftArm', (0.28, 0, 0)),
    ('LeftHand', 'LeftForeArm', (0.25, 0, 0)),
    ('RightShoulder', 'Spine1', (-0.07, 0.2, 0)),
    ('RightArm', 'RightShoulder', (-0.1, 0, 0)),
    ('RightForeArm', 'RightArm', (-0.28, 0, 0)),
    ('RightHand', 'RightForeArm', (-0.25, 0, 0)),
    ('LeftUpLeg', 'Hips', (0.09, -0.05, 0)),
    ('LeftLeg', 'LeftUpLeg', (0, -0.42, 0)),
    ('LeftFoot', 'LeftLeg', (0, -0.4, 0)),
    ('LeftToeBase', 'LeftFoot', (0, -0.06, 0.14)),
    ('RightUpLeg', 'Hips', (-0.09, -0.05, 0)),
    ('RightLeg', 'RightUpLeg', (0, -0.42, 0)),
    ('RightFoot', 'RightLeg', (0, -0.4, 0)),
    ('RightToeBase', 'RightFoot', (0, -0.06, 0.14)),
]


def write_bvh(path, scale=1.0, z_up=False, frames=5, frame_time=1 / 60, rename=None, values=None):
    """Write the skeleton above; the right knee bends 90 degrees in the last frame."""
    rename = rename or (lambda name: name)

    def offset(xyz):
        x, y, z = (scale * v for v in xyz)
        return (x, -z, y) if z_up else (x, y, z)

    lines = []

    def joint(name, depth):
        pad = '  ' * depth
        head = 'ROOT' if depth == 0 else 'JOINT'
        at = offset(next(o for n, _, o in SKELETON if n == name))
        channels = 'CHANNELS 3 Zrotation Xrotation Yrotation'
        if depth == 0:
            channels = 'CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation'
        lines.extend(
            [f'{pad}{head} {rename(name)}', f'{pad}{{', f'{pad}  OFFSET {at[0]} {at[1]} {at[2]}', f'{pad}  {channels}']
        )
        children = [n for n, p, _ in SKELETON if p == name]
        for c in children:
            joint(c, depth + 1)
        if not children:
            lines.extend([f'{pad}  End Site', f'{pad}  {{', f'{pad}    OFFSET 0 0 {0.05 * scale}', f'{pad}  }}'])
        lines.append(f'{pad}}}')

    joint('Hips', 0)
    order = []

    def walk(name):
        order.append(name)
        for n, p, _ in SKELETON:
            if p == name:
                walk(n)

    walk('Hips')
    motion = []
    for frame in range(frames):
        row = list(offset((0.1 * frame, 0.95, 0)))
        for name in order:
            bend = 90.0 if name == 'RightLeg' and frame == frames - 1 else 0.0
            row += [0.0, bend, 0.0]
        motion.append(' '.join(f'{v:.6f}' for v in row))
    text = 'HIERARCHY\n' + '\n'.join(lines) + f'\nMOTION\nFrames: {frames}\nFrame Time: {frame_time}\n'
    path.write_text(text + (values if values is not None else '\n'.join(motion)) + '\n')
    return path


@pytest.mark.parametrize(('unit', 'scale'), [('m', 1), ('cm', 100), ('mm', 1000), ('inch', 39.37), ('cmu', 17.7165)])
@pytest.mark.parametrize('z_up', [False, True])
def test_units_and_axes_are_found(tmp_path, unit, scale, z_up):
    motion = extract_bvh(write_bvh(tmp_path / 'a.bvh', scale, z_up))
    assert motion.provenance['unit'] == unit
    thigh = np.linalg.norm(motion.joint('left_hip') - motion.joint('left_knee'), axis=1)
    assert thigh == pytest.approx(0.42, rel=1e-3)
    assert motion.joint('head')[0, 2] > 1.3  # metres above the floor
    assert motion.joint('left_foot')[0, 2] == pytest.approx(0.03, abs=0.01)
    assert motion.fps == pytest.approx(60)
    # The root walks 0.1 m a frame to the person's left.
    step = motion.joint('pelvis')[1] - motion.joint('pelvis')[0]
    left = motion.joint('left_hip')[0] - motion.joint('right_hip')[0]
    assert step @ left / np.linalg.norm(left) == pytest.approx(0.1, rel=1e-3)


def test_rotations_bend_the_right_limb(tmp_path):
    motion = extract_bvh(write_bvh(tmp_path / 'a.bvh'))
    shin = motion.joint('right_ankle') - motion.joint('right_knee')
    assert shin[0, 2] == pytest.approx(-0.4, abs=1e-6)
    assert abs(shin[-1, 2]) < 1e-6
    assert np.linalg.norm(shin[-1]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    'rename',
    [
        lambda n: f'mixamorig:{n}',
        lambda n: n.replace('Left', 'l').replace('Right', 'r'),
        lambda n: n.replace('Foot', 'Ankle').replace('Hand', 'Wrist').replace('Hips', 'hip'),
    ],
)
def test_common_names(tmp_path, rename):
    motion = extract_bvh(write_bvh(tmp_path / 'a.bvh', rename=rename))
    assert np.linalg.norm(motion.joint('left_elbow') - motion.joint('left_wrist'), axis=1) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        ({'scale': 4.0}, 'a leg measures'),
        ({'frame_time': 0.0}, "'Frame Time' is 0"),
        ({'values': '1 2 3'}, 'holds 3 numbers'),
        ({'values': 'x'}, 'no number'),
        ({'rename': lambda n: n.replace('LeftFoot', 'Wheel')}, 'the left ankle'),
        ({'rename': lambda n: n.replace('Head', 'Lamp')}, 'the head'),
        ({'frames': 1}, 'expected at least 2'),
    ],
)
def test_bad_files(tmp_path, kwargs, said):
    path = write_bvh(tmp_path / 'bad.bvh', **kwargs)
    with pytest.raises(UserError, match=said) as error:
        extract_bvh(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    'text', ['', 'hello', 'HIERARCHY\nROOT a\n{\nOFFSET 0 0\n}\nMOTION\nFrames: 2\nFrame Time: 0.1\n']
)
def test_text_that_is_no_bvh(tmp_path, text):
    (tmp_path / 'a.bvh').write_text(text)
    with pytest.raises(UserError, match=r'BVH|malformed'):
        extract_bvh(tmp_path / 'a.bvh')


def test_a_unit_that_contradicts_the_skeleton(tmp_path):
    with pytest.raises(UserError, match='a leg measures'):
        extract_bvh(write_bvh(tmp_path / 'a.bvh', 100), unit='m')
    with pytest.raises(UserError, match='unit is'):
        extract_bvh(write_bvh(tmp_path / 'a.bvh'), unit='ell')
