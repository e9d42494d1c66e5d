"""The clip file: round trip, derived velocities, and one sentence for each way a file can be wrong."""

import dataclasses
import json

import numpy as np
import pytest

from humanx_description.errors import UserError
from humanx_description.robot import DEFAULT_JOINT_POS, JOINT_NAMES
from humanx_training import rotation
from humanx_training.clip import InteractionClip, Phase, load_npz


def make_clip(frames: int = 50, fps: float = 100.0) -> InteractionClip:
    t = np.arange(frames) / fps
    return InteractionClip(
        fps=fps,
        root_pos=np.stack([0.5 * t, 0 * t, 0.76 + 0 * t], axis=1),
        root_quat=rotation.from_yaw(0.8 * t),
        joint_pos=DEFAULT_JOINT_POS + 0.3 * t[:, None],
        object_name='ball',
        object_shape={'shape': 'sphere', 'size': [0.11], 'mass': 0.43},
        object_pos=np.stack([1 + t, t, 1 - t**2], axis=1),
        object_quat=rotation.exp(np.stack([2 * t, 0 * t, 0 * t], axis=1)),
        contact=np.zeros((frames, 2), dtype=bool),
        contact_bodies=('left_ankle_roll_link', 'right_ankle_roll_link'),
        phases=(Phase('flight', 0, 20), Phase('contact', 20, frames, 'right_ankle_roll_link')),
        provenance={'seed': 3},
    )


def rewrite(path, **changes):
    data = load_npz(path)
    data.update(changes)
    np.savez(path, **{k: v for k, v in data.items() if v is not None})


def test_round_trip_keeps_everything(tmp_path):
    clip = make_clip()
    again = InteractionClip.load(clip.save(tmp_path / 'clip.npz'))
    for field in dataclasses.fields(clip):
        a, b = getattr(clip, field.name), getattr(again, field.name)
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, field.name


def test_velocities_are_right_from_the_first_frame():
    clip = make_clip()
    assert np.allclose(clip.root_lin_vel, [0.5, 0, 0])
    assert np.allclose(clip.root_ang_vel_b, [0, 0, 0.8])
    assert np.allclose(clip.joint_vel, 0.3)
    assert np.allclose(clip.object_ang_vel_b, [2, 0, 0])
    assert clip.qpos().shape == (50, 43)
    assert clip.qvel().shape == (50, 41)


def test_resampling_keeps_time_and_phases():
    clip = make_clip(fps=50.0)
    fine = clip.resampled(100.0)
    assert fine.num_frames == 99
    assert np.allclose(fine.root_pos[::2], clip.root_pos)
    assert np.allclose(fine.object_ang_vel_b, [2, 0, 0], atol=1e-6)
    assert fine.phases[0].end == 40
    assert fine.phases[-1].end == 99


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'fps': np.array(0.0)}, 'fps is 0.0'),
        ({'fps': np.array([50.0, 60.0])}, 'fps has shape'),
        ({'format_version': np.array(9)}, 'format_version is 9'),
        ({'root_pos': None}, "field 'root_pos' is missing"),
        ({'joint_pos': np.zeros((50, 23))}, 'joint_pos has shape (50, 23)'),
        ({'joint_names': np.array(JOINT_NAMES[::-1])}, 'another order'),
        ({'joint_names': np.array(['a', *JOINT_NAMES[1:]])}, "'a' is unknown"),
        ({'object_pos': np.full((50, 3), np.nan)}, 'object_pos has 50 frames with NaN'),
        ({'root_quat': np.full((50, 4), 0.7)}, 'root_quat has length 1.4'),
        ({'contact': np.zeros((50, 3), dtype=bool)}, 'contact has shape'),
        ({'contact': np.zeros((50, 2))}, 'contact holds float64'),
        ({'object_shape': np.array('{"shape": "teapot", "size": [1]}')}, "shape is 'teapot'"),
        ({'object_shape': np.array('nonsense')}, 'object_shape is not JSON'),
        (
            {'phases': np.array(json.dumps([{'kind': 'flight', 'start': 0, 'end': 80}]))},
            'phases[0] covers',
        ),
        ({'phases': np.array('[{"kind": "magic", "start": 0, "end": 50}]')}, "kind is 'magic'"),
        ({'root_pos': np.array([{}], dtype=object)}, 'pickled'),
        ({'root_pos': np.array(['a'])}, 'root_pos holds'),
    ],
)
def test_a_wrong_file_is_named_in_one_sentence(tmp_path, changes, words):
    path = make_clip().save(tmp_path / 'clip.npz')
    rewrite(path, **changes)
    with pytest.raises(UserError) as caught:
        InteractionClip.load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_not_a_file_not_an_archive(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        InteractionClip.load(tmp_path / 'none.npz')
    (tmp_path / 'junk.npz').write_bytes(b'junk')
    with pytest.raises(UserError, match='not a readable'):
        InteractionClip.load(tmp_path / 'junk.npz')


def test_an_earlier_file_survives_a_bad_save(tmp_path):
    clip = make_clip()
    path = clip.save(tmp_path / 'clip.npz')
    before = path.read_bytes()
    clip.object_pos = clip.object_pos * np.nan
    with pytest.raises(UserError):
        clip.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ['clip.npz']


def test_rotations_agree_with_scipy():
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(0)
    a, b = Rotation.random(20, random_state=1), Rotation.random(20, random_state=2)
    qa, qb = a.as_quat()[:, [3, 0, 1, 2]], b.as_quat()[:, [3, 0, 1, 2]]
    v = rng.normal(size=(20, 3))
    assert np.allclose(rotation.to_matrix(rotation.multiply(qa, qb)), (a * b).as_matrix())
    assert np.allclose(rotation.rotate(qa, v), a.apply(v))
    assert np.allclose(rotation.log(qa), a.as_rotvec())
    assert np.allclose(rotation.to_matrix(rotation.exp(a.as_rotvec())), a.as_matrix())
    assert np.allclose(
        rotation.rotate(rotation.between(v[0], v[1]), v[0] / np.linalg.norm(v[0])),
        v[1] / np.linalg.norm(v[1]),
    )
