"""The mean skeletons against published ones, and a person's own skeleton through ``smplx`` and a made-up body model."""

import numpy as np
import pytest

from humanx_description.errors import UserError
from humanx_training.xgen.extract.smpl import extract_smpl
from humanx_training.xgen.extract.smpl_skeleton import SMPL_REST, SMPLX_REST
from humanx_training.xgen.human_motion import PARENTS

# Offsets to the parent of SMPL's joints 1 to 23 (m), neutral mean shape: the body positions of `smpl_humanoid.xml` in
# the public repository ZhengyiLuo/PHC (phc/data/assets/mjcf), which that project made from the licensed model.
PHC_SMPL = np.array([
    [0.0695, -0.0914, -0.0068], [-0.0677, -0.0905, -0.0043], [-0.0025, 0.1090, -0.0267], [0.0343, -0.3752, -0.0045],
    [-0.0383, -0.3826, -0.0089], [0.0055, 0.1352, 0.0011], [-0.0136, -0.3980, -0.0437], [0.0158, -0.3984, -0.0423],
    [0.0015, 0.0529, 0.0254], [0.0264, -0.0558, 0.1193], [-0.0254, -0.0481, 0.1233], [-0.0028, 0.2139, -0.0429],
    [0.0788, 0.1217, -0.0341], [-0.0818, 0.1188, -0.0386], [0.0052, 0.0650, 0.0513], [0.0910, 0.0305, -0.0089],
    [-0.0960, 0.0326, -0.0091], [0.2596, -0.0128, -0.0275], [-0.2537, -0.0133, -0.0214], [0.2492, 0.0090, -0.0012],
    [-0.2553, 0.0078, -0.0056], [0.0840, -0.0082, -0.0149], [-0.0846, -0.0061, -0.0103],
])  # fmt: skip
# Some joints of SMPL-X (m), neutral mean shape, as the package `smplx` gives them and public code prints them.
PUBLISHED_SMPLX = {
    0: (3.1233e-03, -3.5141e-01, 1.2037e-02), 4: (1.1601e-01, -8.2292e-01, -2.3361e-02),
    8: (-8.8937e-02, -1.2284e00, -4.6230e-02), 12: (-1.3687e-02, 1.0774e-01, -2.4690e-02),
    16: (1.6408e-01, 8.5243e-02, -1.5756e-02), 18: (4.1820e-01, 1.3093e-02, -5.8214e-02),
    21: (-6.7221e-01, 3.9410e-02, -6.0935e-02),
}  # fmt: skip


def test_the_mean_skeletons_are_the_published_ones():
    offsets = SMPL_REST[1:] - SMPL_REST[np.array(PARENTS[1:])]
    assert np.abs(offsets - PHC_SMPL).max() < 1e-3
    for joint, place in PUBLISHED_SMPLX.items():
        assert SMPLX_REST[joint] == pytest.approx(place, abs=1e-3)


@pytest.fixture(scope='module')
def body_models(tmp_path_factory):
    """A folder with a made-up SMPL-X model: one vertex per joint, the first shape coefficient scales the body."""
    pytest.importorskip('smplx')
    vertices, joints = 10475, 55  # smplx looks for keypoints at fixed vertices
    rest = np.zeros((vertices, 3))
    rest[:22] = SMPLX_REST[:22]
    rest[22:joints] = SMPLX_REST[20]
    shapes = np.zeros((vertices, 3, 20))
    shapes[:, :, 0] = 0.1 * rest
    regressor = np.zeros((joints, vertices))
    regressor[np.arange(joints), np.arange(joints)] = 1.0
    weights = np.zeros((vertices, joints))
    weights[:, 0] = 1.0
    parents = np.r_[PARENTS[:22], np.full(joints - 22, 15)]
    folder = tmp_path_factory.mktemp('models')
    (folder / 'smplx').mkdir()
    np.savez_compressed(
        folder / 'smplx' / 'SMPLX_NEUTRAL.npz',
        v_template=rest, shapedirs=shapes, J_regressor=regressor, weights=weights, f=np.zeros((4, 3), dtype=np.int64),
        posedirs=np.zeros((vertices, 3, 9 * (joints - 1)), dtype=np.float32),
        kintree_table=np.stack([parents, np.arange(joints)]),
        hands_componentsl=np.zeros((45, 45)), hands_componentsr=np.zeros((45, 45)),
        hands_meanl=np.zeros(45), hands_meanr=np.zeros(45),
        lmk_faces_idx=np.zeros(51, dtype=np.int64), lmk_bary_coords=np.full((51, 3), 1 / 3),
        dynamic_lmk_faces_idx=np.zeros((79, 17), dtype=np.int64), dynamic_lmk_bary_coords=np.full((79, 17, 3), 1 / 3),
    )  # fmt: skip
    return folder


def test_a_body_model_gives_the_person_their_own_limbs(body_models, tmp_path):
    path = tmp_path / 'tall.npz'
    np.savez(path, poses=np.zeros((10, 165)), trans=np.zeros((10, 3)), betas=np.array([1.0] + [0.0] * 9),
             mocap_framerate=30.0)  # fmt: skip
    mean, own = extract_smpl(path), extract_smpl(path, model_dir=body_models)
    assert mean.provenance['skeleton'] == 'mean SMPL-X'
    assert own.provenance['skeleton'] == 'smplx body model with betas'
    for upper, lower in (('left_hip', 'left_knee'), ('right_shoulder', 'right_elbow'), ('spine3', 'neck')):
        lengths = [np.linalg.norm(m.joint(upper)[0] - m.joint(lower)[0]) for m in (mean, own)]
        assert lengths[1] / lengths[0] == pytest.approx(1.1, rel=1e-3)


def test_a_folder_without_models_is_named(body_models, tmp_path):
    path = tmp_path / 'a.npz'
    np.savez(path, poses=np.zeros((10, 165)), trans=np.zeros((10, 3)), mocap_framerate=30.0)
    with pytest.raises(UserError, match='does not exist; expected a folder'):
        extract_smpl(path, model_dir=tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='holds no usable neutral smplx model'):
        extract_smpl(path, model_dir=tmp_path / 'empty')
