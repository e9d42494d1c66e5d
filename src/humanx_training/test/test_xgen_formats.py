"""Other projects' clip files: round trips, the interleaved joints, the captured box, and files that are wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest

from humanx_description.errors import UserError
from humanx_description.paths import data_dir
from humanx_description.robot import JOINT_NAMES
from humanx_training.clip import InteractionClip, load_npz
from humanx_training.xgen.formats import convert, export_hoi, import_g1_npz, import_hoi, parse_shape
from humanx_training.xgen.interleave import INTERLEAVED_NAMES, from_interleaved, to_interleaved

sys.path.insert(0, str(Path(__file__).parent))
from clips_for_tests import standing

BOX = data_dir() / 'g1_box' / 'sub3_largebox_003_mj_w_obj.npz'


def test_interleaving_is_a_permutation_with_the_known_first_joints():
    assert sorted(INTERLEAVED_NAMES) == sorted(JOINT_NAMES)
    assert INTERLEAVED_NAMES[:3] == ('left_hip_pitch_joint', 'right_hip_pitch_joint', 'waist_yaw_joint')
    table = np.arange(58.0).reshape(2, 29)
    assert np.array_equal(from_interleaved(to_interleaved(table)), table)
    knee = JOINT_NAMES.index('right_knee_joint')
    assert to_interleaved(table)[0, INTERLEAVED_NAMES.index('right_knee_joint')] == knee


def test_hoi_round_trip(tmp_path):
    clip = standing(50)
    export_hoi(clip, tmp_path / 'hoi.npz')
    data = load_npz(tmp_path / 'hoi.npz')
    assert np.allclose(data['object_lin_vel_w'], clip.object_lin_vel)
    again = import_hoi(tmp_path / 'hoi.npz')
    assert np.allclose(again.joint_pos, clip.joint_pos)
    assert np.allclose(again.object_pos, clip.object_pos)
    assert again.object_shape['size'] == clip.object_shape['size']
    assert again.fps == clip.fps


def released(frames=60, **changes):
    """Return the arrays that the release's editor writes for a ball that is thrown, above a floor at z = 0.4."""
    clip = standing(frames)
    contact = np.zeros((frames, 4, 1), np.float32)
    contact[20:41, 2:] = 1.0
    up = [0.0, 0.0, 0.4]
    arrays = {
        'fps': np.array([50.0], np.float32),
        'base_pos_w': (clip.root_pos + up).astype(np.float32),
        'base_quat_w': clip.root_quat.astype(np.float32),
        'joint_pos': to_interleaved(clip.joint_pos).astype(np.float32),
        'object_pos_w': (clip.object_pos + up).astype(np.float32),
        'object_quat_w': clip.object_quat.astype(np.float32),
        'object_size': np.array([0.24], np.float32),
        'object_type': np.array(['sphere']),
        'object_contact_start_frame': np.array([20], np.int32),
        'object_release_frame': np.array([40], np.int32),
        'object_pre_contact_mode': np.array(['hold']),
        'object_post_contact_mode': np.array(['parabolic']),
        'contact_info': contact,
    }
    return {**arrays, **changes}


def test_a_file_of_the_release_is_read_in_its_own_terms(tmp_path):
    np.savez(tmp_path / 'ball.npz', **released())
    clip = import_hoi(tmp_path / 'ball.npz')
    assert clip.object_shape['shape'] == 'sphere'
    assert clip.object_shape['size'] == pytest.approx([0.12])  # the file has the diameter
    phases = [(p.kind, p.start, p.end, p.anchor) for p in clip.phases]
    assert phases == [('rest', 0, 20, ''), ('contact', 20, 41, 'palms'), ('flight', 41, 60, '')]
    assert clip.provenance['floor_shift'] == pytest.approx(-0.4, abs=0.02)
    assert np.allclose(clip.object_pos - clip.root_pos, standing(60).object_pos - standing(60).root_pos, atol=1e-6)
    np.savez(tmp_path / 'cube.npz', **released(object_type=np.array(['box']), object_size=np.array([0.3])))
    assert import_hoi(tmp_path / 'cube.npz').object_shape['size'] == pytest.approx([0.3, 0.3, 0.3])
    np.savez(tmp_path / 'marks.npz', **released(object_contact_start_frame=np.array([-1])))
    assert import_hoi(tmp_path / 'marks.npz').phases == ()


def test_a_clip_is_written_in_the_terms_of_the_release(tmp_path):
    clip = standing(50)
    clip.contact_bodies = ('right_wrist_yaw_link', 'right_ankle_roll_link')
    export_hoi(clip, tmp_path / 'hoi.npz')
    data = load_npz(tmp_path / 'hoi.npz')
    assert data['object_size'].tolist() == [0.22]
    assert data['object_type'].tolist() == ['sphere']
    assert data['fps'].tolist() == [100.0]
    assert data['contact_info'].shape == (50, 4, 1)
    assert np.array_equal(data['contact_info'][:, 3, 0] > 0, clip.contact[:, 0])
    assert not data['contact_info'][:, :3].any()
    for size, written in (([0.3, 0.3, 0.3], [0.3]), ([0.3, 0.34, 0.3], [0.3, 0.34, 0.3])):
        clip.object_shape = {'shape': 'box', 'size': size}
        export_hoi(clip, tmp_path / 'hoi.npz')
        assert load_npz(tmp_path / 'hoi.npz')['object_size'].tolist() == written
        assert import_hoi(tmp_path / 'hoi.npz').object_shape['size'] == size
    clip.object_shape = {'shape': 'cylinder', 'size': [0.1, 0.3]}
    with pytest.raises(UserError, match='the clip has cylinder; a HOI file holds one of box, sphere'):
        export_hoi(clip, tmp_path / 'none.npz')
    assert not (tmp_path / 'none.npz').exists()


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'object_type': np.array('teapot')}, "object_type is 'teapot'"),
        ({'joint_pos': np.zeros((50, 27))}, 'joint_pos has shape (50, 27)'),
        ({'base_quat_w': np.zeros((50, 4))}, 'root_quat has length 0.000'),
        ({'fps': np.array('fast')}, 'fps has shape'),
        ({'object_size': np.zeros(0)}, 'object_size has 0 entries'),
        ({'object_size': np.array([-0.2])}, 'object_shape: size is [-0.1]'),
        ({'object_size': np.array(['big'])}, 'object_size has 1 entries of <U3'),
    ],
)
def test_wrong_hoi_files_are_named(tmp_path, change, words):
    export_hoi(standing(50), tmp_path / 'hoi.npz')
    data = {**load_npz(tmp_path / 'hoi.npz'), **change}
    np.savez(tmp_path / 'bad.npz', **data)
    with pytest.raises(UserError) as caught:
        import_hoi(tmp_path / 'bad.npz')
    assert words in str(caught.value)
    assert 'bad.npz' in str(caught.value)


@pytest.mark.skipif(not BOX.is_file(), reason=f'{BOX} is absent (set HUMANX_DATA)')
def test_the_captured_box_is_read(tmp_path):
    clip = import_g1_npz(BOX, parse_shape('box:0.3,0.34,0.36'))
    assert clip.fps == 50
    assert clip.object_pos[:, 2].max() > 0.8
    convert(BOX, tmp_path / 'clip.npz', 'clip', parse_shape('box:0.3,0.34,0.36'))
    convert(tmp_path / 'clip.npz', tmp_path / 'back.npz', 'g1')
    assert np.allclose(load_npz(tmp_path / 'back.npz')['joint_pos'][:, 7:], load_npz(BOX)['joint_pos'][:, 7:])
    assert InteractionClip.load(tmp_path / 'clip.npz').object_shape['shape'] == 'box'
    with pytest.raises(UserError, match='--object'):
        convert(BOX, tmp_path / 'no.npz', 'clip')
    assert not (tmp_path / 'no.npz').exists()


def test_shapes_on_the_command_line():
    assert parse_shape('sphere:0.12') == {'shape': 'sphere', 'size': [0.12]}
    with pytest.raises(UserError, match='--object'):
        parse_shape('box:a,b')
