"""From a skill file to clips: the kick and the box, the walk to the box, and skill files that are wrong."""

import dataclasses
import json

import numpy as np
import pytest
import trimesh
import yaml

from humanx_description.errors import UserError
from humanx_description.scene import default_qpos
from humanx_description.skills import list_skills, load_skill, skill_path
from humanx_training import rotation
from humanx_training.clip import InteractionClip
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.check import check, sole_points
from humanx_training.xgen.gait import Place, walk
from humanx_training.xgen.plan import Infeasible, nominal
from humanx_training.xgen.recipe import recipe_of
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose
from humanx_training.xgen.retarget.stance import balanced_stance
from humanx_training.xgen.run import job_of, make, plan_of, run
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface


@pytest.fixture(scope='module')
def kicks(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'football'
    return folder, run('football', folder, clips=3, seed=5, workers=1, progress=False)


def test_a_kick_sends_the_ball_back_where_it_came_from(kicks):
    folder, manifest = kicks
    clip = InteractionClip.load(folder / 'clip_000.npz')
    assert check(clip).good
    strike = next(p for p in clip.phases if p.kind == 'contact')
    before = clip.object_pos[strike.start] - clip.object_pos[strike.start - 20]
    after = clip.object_pos[strike.end + 20] - clip.object_pos[strike.end]
    cosine = before[:2] @ after[:2] / np.linalg.norm(before[:2]) / np.linalg.norm(after[:2])
    assert cosine < -0.95
    assert np.linalg.norm(after[:2]) > 2 * np.linalg.norm(before[:2])
    foot = clip.contact_bodies.index('right_ankle_roll_link')
    touched = np.flatnonzero(clip.contact[:, foot])
    assert touched.size
    assert touched.min() >= strike.start - 3
    assert touched.max() <= strike.end + 3
    assert not clip.contact[:, [i for i in range(len(clip.contact_bodies)) if i != foot]].any()
    assert manifest['clips'][0]['measures']['arrival_error'] < 0.005
    assert np.allclose(clip.root_pos[0, :2], 0)
    assert abs(rotation.yaw(clip.root_quat[0])) < 1e-6


def test_clips_differ_and_the_seed_repeats_them(kicks, tmp_path):
    folder, manifest = kicks
    assert json.loads((folder / 'manifest.json').read_text()) == manifest
    clips = [InteractionClip.load(folder / entry['file']) for entry in manifest['clips']]
    speeds = [clip.provenance['draws'].get('arrival_speed') for clip in clips]
    assert speeds[1] != speeds[2]
    skill = load_skill('football')
    job = job_of(skill, 'football.yaml', 5, tmp_path)
    attempt = len(manifest['clips'][1]['refused'])
    again = make(job, plan_of(job, 1, attempt), Stage()).clip
    assert np.allclose(again.object_pos, InteractionClip.load(folder / 'clip_001.npz').object_pos, atol=1e-9)
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(UserError, match='not empty'):
        run('football', folder, clips=1, workers=1, progress=False)
    assert sorted(p.name for p in folder.iterdir()) == before


def test_the_box_is_squeezed_and_lifted(data, tmp_path):
    job = job_of(load_skill('cargo'), 'cargo.yaml', 0, tmp_path)
    made = make(job, nominal(job.recipe, job.spec), Stage())
    assert made.clip.object_pos[0, 2] == pytest.approx(0.15, abs=0.002)
    assert made.clip.object_pos[-1, 2] > 0.6
    hands = [made.clip.contact_bodies.index(f'{s}_wrist_yaw_link') for s in ('left', 'right')]
    assert made.clip.contact[-50:, hands].all()
    assert made.refined is not None
    assert np.nanmean(made.refined.closure_after) < 0.2 * np.nanmean(made.refined.closure_before)
    assert made.refined.penetration_after.max() < 0.005


@pytest.mark.parametrize('goal', [Place(np.array([1.4, 0.0]), 0.0), Place(np.array([0.6, 1.1]), 1.2)])
def test_a_walk_arrives_without_sliding_sinking_or_toppling(goal):
    kin = Kinematics()
    rest = default_qpos()
    pose = Pose(rest[None, :3], rot.quat_to_mat(rest[None, 3:7]), rest[None, 7:36])
    kin.update(pose)
    index = [kin.body_index[f'{s}_ankle_roll_link'] for s in ('left', 'right')]
    feet = kin.pos[0, index].copy()
    feet[:, 2] = 0.052558
    standing = balanced_stance(kin, feet, np.tile(np.eye(3), (2, 1, 1)))
    poses, planted = walk(kin, standing, goal, 50.0)
    qpos = np.concatenate([poses.pos, rot.mat_to_quat(poses.mat), poses.joints], axis=1)
    height, place = sole_points(Stage(), qpos)
    assert np.linalg.norm(place[-1].mean(axis=0) - goal.middle) < 0.1
    assert abs(rot.yaw_of(poses.mat[-1:])[0] - goal.yaw) < 0.02
    assert height.min() > -0.005
    for foot in range(2):
        both = planted[1:, foot] & planted[:-1, foot]
        assert np.abs(height[planted[:, foot], foot]).max() < 0.005
        assert (np.linalg.norm(np.diff(place[:, foot], axis=0), axis=1)[both]).max() < 0.003
    # The zero-moment point of the centre of mass stays near a standing foot.
    kin.update(poses)
    com = kin.com()
    zmp = com[1:-1, :2] - com[1:-1, 2:] / 9.81 * 2500 * (com[2:, :2] - 2 * com[1:-1, :2] + com[:-2, :2])
    away = [
        min(np.linalg.norm(z - place[t, f]) for f in range(2) if planted[t, f]) if not planted[t].all() else 0.0
        for t, z in enumerate(zmp, start=1)
    ]
    assert np.percentile(away, 95) < 0.10


@pytest.mark.parametrize('place', [(1.7, 0.0), (0.3, 2.2)])
def test_the_robot_walks_to_the_box_wherever_it_lies(data, tmp_path, place):
    job = job_of(load_skill('cargo'), 'cargo.yaml', 0, tmp_path)
    plan = dataclasses.replace(nominal(job.recipe, job.spec), start_place=place)
    clip = make(job, plan, Stage()).clip  # raises when the clip does not pass its check
    assert np.allclose(clip.root_pos[0, :2], 0.0, atol=1e-6)
    assert abs(rotation.yaw(clip.root_quat[0])) < 1e-6
    assert np.allclose(clip.object_pos[0, :2], place, atol=0.02)
    held = next(p for p in clip.phases if p.kind == 'contact')
    # It lies still until the robot has come up to it, and is lifted with the face towards where it lay.
    assert np.ptp(clip.object_pos[: held.start], axis=0).max() < 1e-6
    assert np.linalg.norm(clip.root_pos[held.start, :2]) > np.linalg.norm(place) - 0.7
    bearing = np.arctan2(place[1], place[0])
    assert abs(rotation.yaw(clip.root_quat[held.start]) - bearing) < 0.35
    assert clip.object_pos[-1, 2] > 0.6
    near = dataclasses.replace(plan, start_place=(0.2, 0.0))
    with pytest.raises(Infeasible, match='nearer than the robot reaches'):
        make(job, near, Stage())


def test_boxes_are_drawn_all_over_the_half_circle(data, tmp_path):
    job = job_of(load_skill('cargo'), 'cargo.yaml', 0, tmp_path)
    places = np.array([plan_of(job, index, 0).start_place for index in range(1, 200)])
    radius, angle = np.linalg.norm(places, axis=1), np.arctan2(places[:, 1], places[:, 0])
    assert 0.5 <= radius.min() < 0.9 < 2.9 < radius.max() <= 3.0
    assert np.abs(angle).max() <= np.pi / 2
    # By area: as many on either side, a quarter within half the radius.
    assert abs(np.mean(angle > 0) - 0.5) < 0.12
    assert np.mean(radius < 1.5) == pytest.approx(0.25, abs=0.1)


def test_every_skill_file_with_a_recipe_is_valid():
    named = [s for s in list_skills() if load_skill(s).xgen and load_skill(s).scenario.object]
    assert len(named) >= 12
    for name in named:
        recipe_of(load_skill(name), str(skill_path(name)))


def test_another_object_takes_the_place_of_the_first(data, tmp_path):
    # An egg-shaped mesh, its file beside the skill file, and a drum instead of the box.
    egg = trimesh.creation.icosphere(subdivisions=2, radius=1.0)
    egg.apply_scale([0.15, 0.18, 0.15])
    egg.export(tmp_path / 'egg.ply')
    text = yaml.safe_load(skill_path('cargo').read_text())
    text['xgen']['augment'] = {'size': [0.95, 1.05], 'replace': [
        {'name': 'egg', 'shape': 'mesh', 'size': [1.0], 'mesh': 'egg.ply', 'mass': 0.7},
        {'name': 'drum', 'shape': 'cylinder', 'size': [0.16, 0.28], 'mass': 0.9},
    ]}  # fmt: skip
    path = tmp_path / 'cargo.yaml'
    path.write_text(yaml.safe_dump(text))
    job = job_of(load_skill(path), str(path), 3, tmp_path)
    drawn = [plan_of(job, index, 0) for index in range(1, 30)]
    counts = {name: sum(p.draws['replaced_by'] == name for p in drawn) for name in ('', 'egg', 'drum')}
    assert min(counts.values()) >= 4, counts
    for name in ('egg', 'drum'):
        plan = next(p for p in drawn if p.draws['replaced_by'] == name)
        made = make(job, plan, Stage(()))  # raises when the clip does not pass its check
        clip = made.clip
        assert clip.object_name == 'box'
        spec = clip.object_spec()
        assert spec.shape == ('mesh' if name == 'egg' else 'cylinder')
        assert spec.mass == pytest.approx((0.7 if name == 'egg' else 0.9) * plan.draws['size'] ** 2)
        assert made.refined.closure_after[np.isfinite(made.refined.closure_after)].mean() < 0.02
        # It lies on the floor first, on what is its underside, and is carried at the end.
        low = Surface.of(spec).lowest(rotation.to_matrix(clip.object_quat[0]))
        assert clip.object_pos[0, 2] == pytest.approx(low, abs=2e-3)
        assert clip.object_pos[-1, 2] > 0.6


def wrong(tmp_path, edit):
    text = yaml.safe_load(skill_path('football').read_text())
    edit(text)
    path = tmp_path / 'football.yaml'
    path.write_text(yaml.safe_dump(text))
    return path


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (lambda s: s['xgen']['contacts'][0].update(anchor='tail'), "anchor is 'tail'"),
        (lambda s: s['xgen']['contacts'][0].update(start=90.0, end=91.0), 'expected it inside the source motion'),
        (lambda s: s['xgen']['contacts'][0].update(start=2.0, end=1.0), 'end is 1.0'),
        (lambda s: s['xgen']['contacts'][0].update(bodies=['tail']), "body 'tail' does not exist"),
        (lambda s: s['xgen']['sources'][0].update(file='nowhere.npz'), 'nowhere.npz: the source motion does not exist'),
        (lambda s: s['xgen']['sources'][0].update(start=50.0), 'expected the source interval'),
        (lambda s: s['xgen'].update(sources=[]), 'sources is empty'),
        (lambda s: s['xgen'].update(colour='red'), "unknown field 'colour'"),
        (lambda s: s['xgen']['augment'].update(size=[2, 1]), 'augment.size'),
        (lambda s: s['xgen']['contacts'][0].update(start=-1.0), 'contact start is -1.0'),
        (lambda s: s['xgen']['contacts'][0].update(turn=[0, 0, 0, 0]), 'contact turn is [0.0, 0.0, 0.0, 0.0]'),
        (lambda s: s['xgen']['arrival'].update(speed=0), 'arrival speed is 0.0'),
        (lambda s: s['xgen']['release'].update(duration=-1), 'release duration is -1.0'),
        (lambda s: s['xgen'].update(time_scale=0), 'time_scale is 0'),
        (lambda s: s['xgen'].update(stance=-1), 'stance is -1'),
        (lambda s: s['xgen']['augment'].update(replace=['crate']), 'augment: replace'),
        (
            lambda s: s['xgen']['augment'].update(
                replace=[{'name': 'egg', 'shape': 'mesh', 'size': [1], 'mesh': 'no.stl'}]
            ),
            "object 'egg': ",
        ),
        (lambda s: s.pop('xgen'), 'no section xgen'),
    ],
)
def test_a_wrong_skill_file_is_named_and_writes_nothing(data, tmp_path, edit, words):
    path = wrong(tmp_path, edit)
    with pytest.raises(UserError) as caught:
        run(path, tmp_path / 'out', clips=1, workers=1, progress=False)
    assert words in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['football.yaml']
