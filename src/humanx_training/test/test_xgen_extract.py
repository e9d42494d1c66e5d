"""Motion files of every kind: what the joints must look like, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from humanx_description.errors import UserError
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.extract.detect import ExtractOptions, extract
from humanx_training.xgen.extract.smpl_skeleton import SMPL_REST, SMPLX_REST
from humanx_training.xgen.human_motion import JOINT, PARENTS

UPRIGHT = np.array([np.pi / 2, 0.0, 0.0])  # SMPL's root rotation of a person who stands in a z-up world


def smpl_file(path, frames=10, **changes):
    poses = np.zeros((frames, 72))
    poses[:, :3] = UPRIGHT
    data = {'poses': poses, 'trans': np.tile([0.0, 0, 1.2], (frames, 1)), 'mocap_framerate': np.array(30)}
    data |= {'betas': np.zeros(16)} | changes
    np.savez(path, **{k: v for k, v in data.items() if v is not None})
    return path


def check_person(motion):
    """What holds for anybody who mostly stands upright: proportions, sides, orientation frames."""
    pos = motion.pos
    bones = np.stack([pos[:, j] - pos[:, p] for j, p in enumerate(PARENTS) if p >= 0], axis=1)
    assert np.linalg.norm(bones, axis=2).std(axis=0).max() < 0.02, 'bones change their length'
    legs = np.linalg.norm(motion.joint('left_knee') - motion.joint('left_ankle'), axis=1).mean()
    assert 0.3 < legs < 0.5
    assert np.median(motion.joint('head')[:, 2] - motion.joint('pelvis')[:, 2]) > 0.4
    toes = np.minimum(motion.joint('left_foot')[:, 2], motion.joint('right_foot')[:, 2])
    assert np.percentile(toes, 10) == pytest.approx(0.03, abs=0.03)
    if motion.has_quat[JOINT['pelvis']]:
        mats = rot.quat_to_mat(motion.quat)
        across = motion.joint('left_hip') - motion.joint('right_hip')
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        # The y axis of the pelvis frame points to the left hip, its z axis up the spine.
        assert np.einsum('ti,ti->t', mats[:, 0, :, 1], across).min() > 0.95
        up = motion.joint('spine3') - motion.joint('pelvis')
        assert np.einsum('ti,ti->t', mats[:, 0, :, 2], up).min() > 0
        # In the frame of the forearm the hand lies where it does in T-pose: to the left of a left elbow.
        for side, sign in (('left', 1), ('right', -1)):
            arm = motion.joint(f'{side}_wrist') - motion.joint(f'{side}_elbow')
            local = np.einsum('tji,tj->ti', mats[:, JOINT[f'{side}_elbow']], arm)
            assert np.median(sign * local[:, 1] / np.linalg.norm(local, axis=1)) > 0.9


def test_smpl_t_pose_has_identity_orientations_and_faces_x_after_a_turn(tmp_path):
    motion = extract(smpl_file(tmp_path / 'a.npz'))
    # Rest faces the model's +z, which is -y of the world here: heading -90 degrees, upright.
    mats = rot.quat_to_mat(motion.quat)
    expected = rot.rot_z(np.array(-np.pi / 2))
    np.testing.assert_allclose(mats, np.broadcast_to(expected, mats.shape), atol=1e-9)
    wrist = motion.joint('left_wrist')[0] - motion.joint('pelvis')[0]
    assert wrist[0] > 0.6  # the left hand is on the left of somebody who faces -y
    height = motion.joint('left_hip')[0, 2] - motion.joint('left_ankle')[0, 2]
    assert height == pytest.approx(SMPL_REST[1, 1] - SMPL_REST[7, 1], abs=1e-9)


def test_smplx_layouts_agree(tmp_path):
    body = np.random.default_rng(1).normal(scale=0.2, size=(8, 63))
    root = np.tile(UPRIGHT, (8, 1))
    trans = np.zeros((8, 3))
    full = np.concatenate([root, body, np.zeros((8, 99))], axis=1)
    np.savez(tmp_path / 'a.npz', poses=full, trans=trans, mocap_frame_rate=60.0, surface_model_type='smplx')
    np.savez(tmp_path / 'b.npz', root_orient=root, pose_body=body, trans=trans, mocap_frame_rate=60.0)
    a, b = extract(tmp_path / 'a.npz'), extract(tmp_path / 'b.npz')
    np.testing.assert_allclose(a.pos, b.pos, atol=1e-9)
    assert a.provenance['format'] == b.provenance['format'] == 'smplx'
    assert a.fps == 60


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'poses': None}, "'poses' is missing"),
        ({'poses': np.zeros((10, 71))}, "'poses' has shape"),
        ({'poses': np.full((10, 72), np.nan)}, "'poses' is not finite in frame 0"),
        ({'trans': None}, "'trans' is missing"),
        ({'trans': np.zeros((9, 3))}, "'trans' has shape"),
        ({'trans': np.full((10, 3), 1200.0)}, 'expected metres'),
        ({'mocap_framerate': None}, "'mocap_framerate' is missing"),
        ({'mocap_framerate': np.array(0)}, "'mocap_framerate' is 0"),
        ({'mocap_framerate': np.array('fast')}, "'mocap_framerate' holds"),
        ({'mocap_framerate': np.zeros(0)}, "'mocap_framerate' has shape"),
        ({'poses': np.full((10, 72), 'x')}, "'poses' holds"),
        ({'betas': np.array(['tall'])}, "'betas' holds"),
        ({'poses': None, 'root_orient': np.zeros(3), 'pose_body': np.zeros((10, 63))}, "'root_orient' and 'pose_body'"),
        ({'poses': np.array([{}], dtype=object)}, 'wants pickle'),
    ],
)
def test_bad_smpl_files(tmp_path, changes, said):
    path = smpl_file(tmp_path / 'bad.npz', **changes)
    with pytest.raises(UserError, match=said) as error:
        extract(path)
    assert str(path) in str(error.value)


def test_frame_rates_that_contradict(tmp_path):
    with pytest.raises(UserError, match='is 30 but 60 was asked for'):
        extract(smpl_file(tmp_path / 'a.npz'), ExtractOptions(fps=60))


@pytest.mark.parametrize('fps', [0.0, -30.0, float('nan'), 1e6])
def test_impossible_frame_rates(tmp_path, fps):
    torch.save(gvhmr_result(), tmp_path / 'a.pt')
    with pytest.raises(UserError, match=r'--fps is .* expected 5 to 500'):
        extract(tmp_path / 'a.pt', ExtractOptions(fps=fps))


def test_cut_outside_the_clip(tmp_path):
    path = smpl_file(tmp_path / 'a.npz', frames=31)
    assert extract(path, ExtractOptions(start=0.5)).num_frames == 16
    with pytest.raises(UserError, match='outside the clip'):
        extract(path, ExtractOptions(start=2.0))


@pytest.mark.parametrize('name', ['kick_level1', 'walk_level1', 'Kobe_level1'])
def test_real_smpl(data, name):
    check_person(extract(data / f'smpl/{name}.npz'))


# DeepMimic ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('name', ['kick', 'walk', 'punch'])
def test_real_deepmimic(data, name):
    motion = extract(data / f'deepmimic/humanoid3d_{name}.txt')
    check_person(motion)
    assert 10 < motion.fps < 70


def deepmimic_frame(duration=0.03):
    identity = [1.0, 0, 0, 0]
    joints = identity * 3 + identity + [-0.4] + identity + identity + [0.3] + identity + [-0.4] + identity + identity
    return [duration, 0, 0.9, 0, *joints, 0.3]


def test_deepmimic_axes(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text(json.dumps({'Loop': 'none', 'Frames': [deepmimic_frame(), deepmimic_frame()]}))
    motion = extract(path)
    assert motion.joint('left_hip')[0, 1] > 0.05  # left is +y when facing +x
    assert motion.joint('left_ankle')[0, 0] < motion.joint('left_knee')[0, 0]  # a bent knee brings the shin back
    assert motion.joint('left_wrist')[0, 0] > motion.joint('left_elbow')[0, 0]  # a bent elbow brings the hand forward


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('not json', 'is not JSON'),
        ('{}', "'Frames' is missing"),
        (json.dumps({'Frames': [[0.1, 2]]}), 'frame 0 of Frames holds 2'),
        (json.dumps({'Frames': [deepmimic_frame(), ['x'] * 44]}), 'no number'),
        (json.dumps({'Frames': [deepmimic_frame(), [*deepmimic_frame()[:-1], float('nan')]]}), 'is not finite'),
        (json.dumps({'Frames': [deepmimic_frame(0.0)] * 3}), 'lasts 0 s'),
        (json.dumps({'Frames': [deepmimic_frame(0.01), deepmimic_frame(0.05), deepmimic_frame()]}), 'constant frame'),
        (json.dumps({'Frames': [deepmimic_frame()]}), 'at least 2'),
    ],
)
def test_bad_deepmimic(tmp_path, content, said):
    path = tmp_path / 'bad.txt'
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        extract(path)


# BallPlay and GVHMR ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('name', ['shot_001', 'catch_012', 'pickup_001'])
def test_real_ballplay_has_its_ball(data, name):
    motion = extract(data / f'ballplay/{name}.pt')
    check_person(motion)
    assert motion.fps == 60
    hands = np.stack([motion.joint('left_hand'), motion.joint('right_hand')])
    gap = np.linalg.norm(hands - motion.captured.pos, axis=2).min(axis=0)
    held = motion.captured.contact
    assert gap[held].max() < 0.35  # while in contact the ball's centre is within a hand's reach
    assert held.any()


def gvhmr_result(frames=12, **changes):
    params = {
        'body_pose': torch.zeros(frames, 63),
        'betas': torch.zeros(frames, 10),
        'global_orient': torch.zeros(frames, 3),
        'transl': torch.zeros(frames, 3),
    } | changes
    return {'smpl_params_global': {k: v for k, v in params.items() if v is not None}, 'K_fullimg': torch.eye(3)}


def test_gvhmr_is_turned_to_z_up_and_put_on_the_floor(tmp_path):
    path = tmp_path / 'hmr4d_results.pt'
    torch.save(gvhmr_result(), path)
    motion = extract(path, ExtractOptions(fps=25))
    check_person(motion)
    assert motion.fps == 25
    assert motion.provenance['format'] == 'gvhmr'


def test_a_real_motion_as_a_gvhmr_result_is_the_same_person(data, tmp_path):
    """The same SMPL parameters, once in a z-up file, once as GVHMR writes them: y up, as tensors of a network."""
    with np.load(data / 'smpl/kick_level1.npz', allow_pickle=False) as file:
        poses, trans, rate = file['poses'], file['trans'], float(file['mocap_framerate'])
    np.savez(
        tmp_path / 'smplx.npz', root_orient=poses[:, :3], pose_body=poses[:, 3:66], trans=trans, mocap_framerate=rate
    )
    to_y_up = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    orient = rot.log(to_y_up @ rot.exp(poses[:, :3].astype(float)))
    # The root turns about the pelvis, which lies beside the model's origin: its place, not `trans`, is what is turned.
    shift = SMPLX_REST[0] @ to_y_up.T - SMPLX_REST[0]
    torch.save(gvhmr_result(
        global_orient=torch.tensor(orient, requires_grad=True),
        body_pose=torch.tensor(poses[:, 3:66], dtype=torch.float32),
        transl=torch.tensor(trans @ to_y_up.T + shift, dtype=torch.float64),
        betas=torch.zeros(len(poses), 10, dtype=torch.bfloat16),
    ), tmp_path / 'hmr4d_results.pt')  # fmt: skip
    known = extract(tmp_path / 'smplx.npz')
    seen = extract(tmp_path / 'hmr4d_results.pt', ExtractOptions(fps=rate))
    apart = seen.pos - known.pos
    assert np.abs(apart - apart[0, 0]).max() < 1e-4  # up to where the floor is
    assert np.abs(apart[0, 0, :2]).max() < 1e-4
    assert np.abs(rot.quat_to_mat(seen.quat) - rot.quat_to_mat(known.quat)).max() < 1e-4
    check_person(seen)


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ({'a': torch.zeros(3)}, "'smpl_params_global' is missing"),
        (gvhmr_result(transl=None), r"'smpl_params_global\.transl' is missing"),
        (gvhmr_result(body_pose=torch.zeros(12, 62)), "'body_pose' has shape"),
        (gvhmr_result(transl=torch.zeros(11, 3)), "'transl' has 11 frames"),
        (gvhmr_result(transl=torch.full((12, 3), 1e6)), 'expected metres'),
        (gvhmr_result(betas='tall'), "'betas' holds"),
        (torch.zeros(5, 337), 'a leg measures 0 m'),
        (gvhmr_result(transl=torch.full((12, 3), float('nan'))), "'transl' is not finite"),
        (torch.zeros(5, 12), r'holds \(5, 12\)'),
        (torch.full((5, 337), float('inf')), 'is not finite in frame 0'),
        ([1, 2], 'holds list'),
    ],
)
def test_bad_torch_content(tmp_path, content, said):
    path = tmp_path / 'bad.pt'
    torch.save(content, path)
    with pytest.raises(UserError, match=said):
        extract(path)


class Evil:
    """Would create a file if it were ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def test_a_torch_file_that_wants_pickle_is_refused_and_runs_nothing(tmp_path):
    trap = tmp_path / 'trap'
    torch.save({'smpl_params_global': Evil(trap)}, tmp_path / 'evil.pt')
    with pytest.raises(UserError, match='wants pickle'):
        extract(tmp_path / 'evil.pt')
    assert not trap.exists()


@pytest.mark.parametrize('content', [b'', b'hello'])
def test_torch_files_that_are_none(tmp_path, content):
    (tmp_path / 'a.pt').write_bytes(content)
    with pytest.raises(UserError, match='expected'):
        extract(tmp_path / 'a.pt')


def test_unknown_endings_and_absent_files(tmp_path):
    (tmp_path / 'a.fbx').write_bytes(b'x')
    with pytest.raises(UserError, match=r"ending '\.fbx'"):
        extract(tmp_path / 'a.fbx')
    with pytest.raises(UserError, match='does not exist'):
        extract(tmp_path / 'b.npz')
