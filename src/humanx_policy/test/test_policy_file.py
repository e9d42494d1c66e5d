"""Policy files: written, read back, and refused by name for everything that can be wrong."""

import argparse
import json

import numpy as np
import pytest

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_policy import cli, export, library, model_file
from humanx_policy import observation as ob
from humanx_policy.controller import (
    NonFiniteActionError,
    ObjectsSample,
    PolicyController,
    RobotSample,
)
from humanx_policy.metadata import KEYS, PolicyError, PolicyMetadata
from humanx_policy.runtime import PolicyRuntime

J = robot.NUM_JOINTS


def metadata(mode: str = 'nep', **change) -> PolicyMetadata:
    terms = ob.nep_terms() if mode == 'nep' else ob.mocap_terms()
    values = {
        'skill': 'test',
        'mode': mode,
        'observation_terms': ob.ObservationLayout(terms),
        'object_roles': () if mode == 'nep' else ('ball',),
        'provenance': {'seed': 1},
        'measured': {'success_rate': 0.9, 'trials': 100},
    }
    return PolicyMetadata(**(values | change))


def mlp(size: int, out: int = J, activation: str = 'elu', seed: int = 0) -> export.Mlp:
    rng = np.random.default_rng(seed)
    return export.Mlp(
        [
            (rng.normal(size=(32, size)) / size**0.5, rng.normal(size=32)),
            (rng.normal(size=(16, 32)) / 6, rng.normal(size=16)),
            (rng.normal(size=(out, 16)) / 4, rng.normal(size=out)),
        ],
        activation,
        obs_mean=rng.normal(size=size),
        obs_std=rng.uniform(0.5, 2, size=size),
        obs_clip=3.0,
    )


@pytest.mark.parametrize('activation', ['elu', 'relu', 'tanh'])
def test_network_equals_numpy(tmp_path, activation):
    meta = metadata('mocap')
    network = mlp(meta.observation_terms.size, activation=activation)
    sha = export.write_policy(tmp_path / 'p.onnx', network, meta)
    runtime = PolicyRuntime(tmp_path / 'p.onnx')
    assert runtime.sha256 == sha
    function = {
        'elu': lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        'relu': lambda x: np.maximum(x, 0),
        'tanh': np.tanh,
    }[activation]
    rng = np.random.default_rng(1)
    for _ in range(5):
        obs = 3 * rng.normal(size=runtime.layout.size).astype(np.float32)
        value = np.clip((obs - network.obs_mean) / network.obs_std, -3, 3)
        for weight, bias in network.layers[:-1]:
            value = function(weight @ value + bias)
        weight, bias = network.layers[-1]
        runtime.observation[0] = obs
        np.testing.assert_allclose(runtime.act()[0], weight @ value + bias, atol=1e-5)


def test_metadata_round_trip(tmp_path):
    meta = metadata('mocap')
    export.write_policy(tmp_path / 'p.onnx', mlp(meta.observation_terms.size), meta)
    got = PolicyRuntime(tmp_path / 'p.onnx').metadata
    for key in KEYS:
        np.testing.assert_array_equal(getattr(got, key), getattr(meta, key))


def broken(tmp_path, key: str, value) -> list[str]:
    """Return what check_file says of a good file with one metadata string replaced (None: removed)."""
    import onnx

    meta = metadata('mocap')
    model = onnx.load_from_string(export.with_metadata(export.build_graph(mlp(meta.observation_terms.size)), meta))
    strings = meta.to_strings()
    if value is None:
        del strings[key]
    else:
        strings[key] = value if isinstance(value, str) else json.dumps(value)
    onnx.helper.set_model_props(model, strings)
    path = tmp_path / 'broken.onnx'
    path.write_bytes(model.SerializeToString())
    return model_file.check_file(path)


@pytest.mark.parametrize('key', KEYS)
def test_each_missing_key_is_named(tmp_path, key):
    problems = broken(tmp_path, key, None)
    assert len(problems) == 1
    assert f'{key!r} is missing; expected ' in problems[0]


def swapped(values, a: int, b: int) -> list:
    values = list(values)
    values[a], values[b] = values[b], values[a]
    return values


TERMS = ob.ObservationLayout(ob.mocap_terms()).to_list()


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('format_version', 2, 'it is 2'),
        ('format_version', '{', 'is not JSON'),
        ('skill', '""', 'name of the skill'),
        ('mode', '"both"', "'nep' or 'mocap'"),
        ('joint_names', list(robot.JOINT_NAMES[:23]), '23 names'),
        ('joint_names', ['l_hip', *robot.JOINT_NAMES[1:]], "'l_hip' is no joint of the G1"),
        ('joint_names', swapped(robot.JOINT_NAMES, 1, 6), 'joint 1 is'),
        ('default_joint_pos', [0.0] * 28, '28 entries'),
        ('default_joint_pos', [9.0] + [0.0] * 28, 'left_hip_pitch_joint is 9 rad'),
        ('action_scale', [0.0] * 29, 'left_hip_pitch_joint is 0 rad'),
        ('action_scale', '[' + ','.join(['NaN'] * 29) + ']', 'it holds NaN'),
        ('action_scale', '[' + ','.join(['1e999'] * 29) + ']', 'is inf'),
        ('kp', [1.0] * 29, 'placeholder'),
        ('kp', [4000.0] * 29, 'left_hip_pitch_joint is 4000'),
        ('kp', swapped(robot.KP, 0, 1), 'another joint order'),
        ('kd', ['a'] * 29, "left_hip_pitch_joint is 'a'"),
        ('effort_limit', [200.0] * 29, 'left_hip_pitch_joint is 200 N m'),
        ('observation_terms', TERMS[:-1], "lacks 'object_tracked'"),
        ('observation_terms', [TERMS[0] | {'size': 4}], 'has size 4 instead of 3'),
        ('observation_terms', [TERMS[0] | {'name': 'phase'}], "'phase' is not known"),
        ('observation_terms', TERMS[::-1][:3] + TERMS[:3], 'describes'),
        ('object_roles', [], 'is empty'),
        ('object_roles', ['ball', 'hoop'], 'has size 3; expected 6'),
        ('object_roles', ['pelvis'], 'the robot itself'),
        ('control_period_s', 0.02, '0.02 s'),
        ('provenance', [], 'is a list'),
        ('mode', '"nep"', "is 'nep' but"),
    ],
)
def test_each_bad_value_is_named_with_what_was_expected(tmp_path, key, value, said):
    problems = broken(tmp_path, key, value)
    assert any(said in problem and 'expect' in problem for problem in problems), problems


def test_all_problems_are_reported_at_once(tmp_path):
    with pytest.raises(PolicyError) as caught:
        PolicyMetadata.from_strings({'kp': json.dumps([1.0] * 29)})
    assert len(caught.value.problems) == len(KEYS)


def test_cut_and_foreign_files_are_refused(tmp_path):
    meta = metadata()
    good = tmp_path / 'good.onnx'
    export.write_policy(good, mlp(meta.observation_terms.size), meta)
    content = good.read_bytes()
    assert model_file.check_file(good) == []
    path = tmp_path / 'bad.onnx'
    for bad in (content[: len(content) // 2], content[:100], b'', b'PK\x03\x04 not a model'):
        path.write_bytes(bad)
        (problem,) = model_file.check_file(path)
        assert 'no ONNX model' in problem


def test_nothing_is_written_where_the_model_is_wrong(tmp_path):
    path = tmp_path / 'p.onnx'
    path.write_bytes(b'before')
    meta = metadata()
    size = meta.observation_terms.size
    for network, said in (
        (mlp(size - 1), f'width {size - 1}'),
        (mlp(size, out=23), 'expected 29'),
    ):
        with pytest.raises(PolicyError, match=said):
            export.write_policy(path, network, meta)
    assert path.read_bytes() == b'before'
    assert [p.name for p in tmp_path.iterdir()] == ['p.onnx']
    nan = mlp(size)
    nan.layers[0][0][0, 0] = np.nan
    with pytest.raises(PolicyError, match='non-finite'):
        export.write_policy(path, export.build_graph(nan), meta)
    with pytest.raises(ValueError, match='layer 0 holds a non-finite'):
        export.Mlp(nan.layers)


def sample(rng: np.random.Generator) -> RobotSample:
    quat = rng.normal(size=4)
    return RobotSample(rng.normal(size=3), quat / np.linalg.norm(quat), rng.normal(size=J), rng.normal(size=J))


def test_controller_feeds_back_its_action_and_resets(tmp_path):
    meta = metadata()
    export.write_policy(tmp_path / 'p.onnx', mlp(meta.observation_terms.size), meta)
    controller = PolicyController(PolicyRuntime(tmp_path / 'p.onnx'))
    layout, obs = controller.runtime.layout, controller.runtime.observation
    rng = np.random.default_rng(0)
    state = sample(rng)
    first = controller.step(state).copy()
    assert not obs[0, layout.slices['last_action']].any()
    second = controller.step(state).copy()
    action = (first - meta.default_joint_pos) / meta.action_scale
    now, before = layout.slice_of('last_action', 0), layout.slice_of('last_action', 1)
    np.testing.assert_allclose(obs[0, now], action, atol=1e-5)
    assert not obs[0, before].any()
    np.testing.assert_allclose(obs[0, layout.slices['pd_error']], first - state.joint_pos, atol=1e-5)
    assert not np.allclose(first, second)
    controller.reset()
    np.testing.assert_array_equal(controller.step(state), first)


def test_lost_pelvis_masks_every_object(tmp_path):
    meta = metadata('mocap')
    export.write_policy(tmp_path / 'p.onnx', mlp(meta.observation_terms.size), meta)
    controller = PolicyController(PolicyRuntime(tmp_path / 'p.onnx'))
    layout, obs = controller.runtime.layout, controller.runtime.observation
    state = sample(np.random.default_rng(0))
    seen = ObjectsSample(
        np.array([1.0, 0, 0.8]), np.array([1.0, 0, 0, 0]), True,
        np.array([[2.0, 0.5, 0.1]]), np.array([True]),
    )  # fmt: skip
    controller.step(state, seen)
    np.testing.assert_allclose(obs[0, layout.slice_of('object_pos', 0)], [1, 0.5, -0.7], atol=1e-6)
    seen.pelvis_tracked = False
    controller.step(state, seen)
    assert not obs[0, layout.slice_of('object_pos', 0)].any()
    assert not obs[0, layout.slice_of('object_tracked', 0)].any()
    assert obs[0, layout.slice_of('object_tracked', 1)] == 1


def test_non_finite_action_is_an_error(tmp_path):
    meta = metadata()
    network = mlp(meta.observation_terms.size)
    export.write_policy(tmp_path / 'p.onnx', network, meta)
    controller = PolicyController(PolicyRuntime(tmp_path / 'p.onnx'))
    state = sample(np.random.default_rng(0))
    state.base_ang_vel[:] = np.nan
    with pytest.raises(NonFiniteActionError, match='non-finite action for '):
        controller.step(state)


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    args = parser.parse_args(argv)
    return args.run(args)


def test_check_command(tmp_path, capsys):
    meta = metadata()
    good, bad = tmp_path / 'good.onnx', tmp_path / 'bad.onnx'
    export.write_policy(good, mlp(meta.observation_terms.size), meta)
    bad.write_bytes(good.read_bytes()[:-2000])
    assert run('policy', 'check', str(good)) == 0
    assert 'ok' in capsys.readouterr().out
    assert run('policy', 'check', str(good), str(bad)) == 1
    assert f'{bad}: The file is no ONNX model' in capsys.readouterr().out
    with pytest.raises(UserError, match=r'no\.onnx'):
        run('policy', 'check', str(tmp_path / 'no.onnx'))
    assert run('policy', 'info', str(good), '--json') == 0
    info = json.loads(capsys.readouterr().out)
    assert info['observation_size'] == 494
    assert info['measured']['trials'] == 100


def test_unknown_skill_lists_the_known(tmp_path, monkeypatch):
    (tmp_path / 'football.onnx').write_bytes(b'')
    monkeypatch.setenv('HUMANX_POLICIES', str(tmp_path))
    with pytest.raises(UserError, match='football'):
        library.find_policy('chess')
    assert library.find_policy('football') == tmp_path / 'football.onnx'


def test_every_shipped_policy_passes_the_check_under_its_own_name():
    skills = library.known_skills()
    assert 'stand' in skills
    for skill in skills:
        path = library.find_policy(skill)
        assert model_file.check_file(path) == []
        assert PolicyRuntime(path).metadata.skill == skill
