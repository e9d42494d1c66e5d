"""Surfaces, the force-closure residual, and the refinement of hands around a ball and a box."""

import numpy as np
import pytest
import trimesh
from PIL import Image

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.scene import default_qpos
from humanx_training import rotation
from humanx_training.xgen.force_closure import Refiner, closure_residual, refine
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface, load_mesh

SHAPES = [
    ObjectSpec('o', 'sphere', (0.12,)),
    ObjectSpec('o', 'box', (0.3, 0.2, 0.4)),
    ObjectSpec('o', 'cylinder', (0.1, 0.3)),
    ObjectSpec('o', 'shuttlecock', (0.085, 0.033)),
]


@pytest.fixture(scope='module')
def stage():
    return Stage()


@pytest.mark.parametrize('spec', SHAPES, ids=lambda s: s.shape)
def test_the_gradient_is_the_derivative_of_the_distance(spec):
    surface, rng = Surface.of(spec), np.random.default_rng(0)
    points = rng.uniform(-0.4, 0.4, (200, 3))
    distance, normal = surface(points)
    numeric = np.stack([(surface(points + e)[0] - surface(points - e)[0]) / 2e-6 for e in 1e-6 * np.eye(3)], axis=1)
    smooth = np.abs(np.linalg.norm(numeric, axis=1) - 1) < 1e-3
    assert smooth.mean() > 0.9
    assert np.abs(numeric - normal)[smooth].max() < 1e-3
    # Stepping back along the normal leads to the surface.
    assert np.abs(surface(points - distance[:, None] * normal)[0])[smooth & (distance > 0)].max() < 1e-9


def test_a_mesh_is_its_hull_and_bad_meshes_are_named(tmp_path):
    path = tmp_path / 'box.stl'
    trimesh.creation.box(extents=(0.3, 0.2, 0.4)).export(path)
    points = np.array([[0.2, 0, 0], [0, 0, 0.1], [0, -0.15, 0]])
    mesh = Surface.of(ObjectSpec('o', 'mesh', (1.0,), mesh=path))
    box = Surface.of(SHAPES[1])
    assert np.allclose(mesh(points)[0], box(points)[0], atol=1e-6)
    big = tmp_path / 'mm.stl'
    trimesh.creation.box(extents=(300, 200, 400)).export(big)
    with pytest.raises(UserError, match='millimetres'):
        load_mesh(ObjectSpec('o', 'mesh', (1.0,), mesh=big))
    assert load_mesh(ObjectSpec('o', 'mesh', (0.001,), mesh=big)) is not None
    holed = trimesh.creation.box(extents=(0.3, 0.2, 0.4))
    holed.update_faces(np.arange(len(holed.faces)) > 1)
    holed.export(tmp_path / 'holed.stl')
    with pytest.raises(UserError, match='holes'):
        load_mesh(ObjectSpec('o', 'mesh', (1.0,), mesh=tmp_path / 'holed.stl'))


def test_a_textured_mesh_is_closed_where_its_texture_has_seams(tmp_path):
    """SAM-3D's ``.glb``: the same corner of the mesh has a vertex for each patch of the texture."""
    box = trimesh.creation.box(extents=(0.3, 0.2, 0.4))
    box.unmerge_vertices()
    uv = np.random.default_rng(0).uniform(size=(len(box.vertices), 2))
    box.visual = trimesh.visual.TextureVisuals(uv=uv, image=Image.new('RGB', (8, 8), (180, 120, 60)))
    path = tmp_path / 'box.glb'
    box.export(path)
    assert not trimesh.load(path, force='mesh').is_watertight
    points = np.random.default_rng(1).uniform(-0.2, 0.2, (50, 3))
    distance = Surface.of(ObjectSpec('o', 'mesh', (1.0,), mesh=path))(points)[0]
    exact = Surface.of(SHAPES[1])(points)[0]
    assert np.allclose(distance[exact < 0], exact[exact < 0], atol=1e-6)


def test_a_cloud_of_points_is_no_mesh(tmp_path):
    # SAM-3D's other output, Gaussian splats, is a .ply too: vertices with colours and no faces.
    names = ('x', 'y', 'z', 'f_dc_0', 'f_dc_1', 'f_dc_2', 'opacity')
    header = ['ply', 'format ascii 1.0', 'element vertex 4', *(f'property float {n}' for n in names), 'end_header']
    rows = [' '.join(str(v) for v in row) for row in np.random.default_rng(0).normal(size=(4, len(names)))]
    (tmp_path / 'splats.ply').write_text('\n'.join([*header, *rows]) + '\n')
    with pytest.raises(UserError, match=r'splats\.ply: holds no faces; expected a triangle mesh'):
        load_mesh(ObjectSpec('o', 'mesh', (1.0,), mesh=tmp_path / 'splats.ply'))


def test_a_whole_motion_is_measured_as_its_frames_are(stage, tmp_path):
    trimesh.creation.icosphere(subdivisions=2, radius=0.12).export(tmp_path / 'ball.ply')
    surface, rng = Surface.of(ObjectSpec('o', 'mesh', (1.0,), mesh=tmp_path / 'ball.ply')), np.random.default_rng(1)
    frames = 60  # times the robot's spheres: more points than a mesh is measured against at a time
    qpos = np.tile(default_qpos(), (frames, 1))
    qpos[:, 7:36] += rng.uniform(-0.3, 0.3, (frames, 29))
    pos = rng.uniform([0.0, -0.3, 0.7], [0.4, 0.3, 1.2], (frames, 3))
    quat = rotation.exp(rng.normal(size=(frames, 3)))
    distances = stage.distances(qpos, surface, pos, quat)
    assert distances.size > 4096
    for t in (0, 31, frames - 1):
        local = rotation.rotate_inverse(quat[t], stage.sphere_centres(qpos[t]) - pos[t])
        assert np.allclose(distances[t], surface(local)[0] - stage.spheres.radius, atol=1e-12)


def test_antipodal_contacts_are_closed_and_others_are_not():
    x = np.array([[0.1, 0, 0], [-0.1, 0, 0]])
    assert np.linalg.norm(closure_residual(x, x / 0.1, 0.1)) < 1e-12
    y = np.array([[0.1, 0, 0], [0, 0.1, 0]])
    assert np.linalg.norm(closure_residual(y, y / 0.1, 0.1)) > 0.5
    # Parallel forces past each other: no net force, but a torque.
    shifted = np.array([[0.1, 0.05, 0], [-0.1, -0.05, 0]])
    normals = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    assert np.linalg.norm(closure_residual(shifted, normals, 0.1)[:3]) < 1e-12
    assert np.linalg.norm(closure_residual(shifted, normals, 0.1)[3:]) == pytest.approx(0.5)


@pytest.mark.parametrize('spec', SHAPES[:2], ids=lambda s: s.shape)
def test_hands_close_around_the_object(stage, spec):
    surface, frames = Surface.of(spec), 12
    qpos = np.tile(default_qpos(), (frames, 1))
    pos = np.tile(stage.anchor(qpos[:1], 'palms')[0][0] + [0.05, 0.0, 0.05], (frames, 1))
    pos[:, 2] += np.linspace(0, 0.05, frames)
    quat = np.tile([1.0, 0, 0, 0], (frames, 1))
    hands = tuple(stage.model.body(b).id for b in robot.HAND_BODIES)
    refiner = Refiner(stage, surface, (robot.LEFT_ARM, robot.RIGHT_ARM))
    done = refine(refiner, qpos, pos, quat, [hands] * frames, blend=10)
    assert done.distance_before.max() > 0.01, 'the hands were there already: the test shows nothing'
    assert done.distance_after.max() < 0.002
    assert done.penetration_after.max() < 0.005
    assert done.closure_after.max() < 0.05
    if spec.shape == 'sphere':  # flat sides are antipodal from the start
        assert done.closure_after.mean() < 0.3 * done.closure_before.mean()
    assert (done.joint_pos <= robot.JOINT_UPPER).all()
    assert (done.joint_pos >= robot.JOINT_LOWER).all()
    assert np.abs(np.diff(done.joint_pos, axis=0)).max() < 0.1, 'the correction jumps between frames'
    others = [i for i in range(29) if i not in range(15, 29)]
    assert np.array_equal(done.joint_pos[:, others], qpos[:, 7:][:, others])


def test_a_hand_in_the_way_gives_way_and_an_unknown_anchor_is_named(stage):
    surface, frames = Surface.of(SHAPES[0]), 30
    qpos = np.tile(default_qpos(), (frames, 1))
    palm = stage.anchor(qpos[:1], 'right_palm')[0][0]
    pos = palm + np.stack([np.linspace(0.6, -0.6, frames), np.zeros(frames), np.full(frames, 0.1)], axis=1)
    quat = np.tile([1.0, 0, 0, 0], (frames, 1))
    refiner = Refiner(stage, surface, (robot.RIGHT_ARM,))
    done = refine(refiner, qpos, pos, quat, [()] * frames, blend=10)
    assert done.penetration_before.max() > 0.03
    assert done.penetration_after.max() < 0.005
    with pytest.raises(UserError, match="anchor is 'tail'"):
        stage.anchor(qpos, 'tail')
