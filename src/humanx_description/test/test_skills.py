"""Skill files: the shipped ones load; wrong ones are refused with file and field."""

import numpy as np
import pytest

from humanx_description.errors import UserError
from humanx_description.scenario import sample, to_world
from humanx_description.skills import list_skills, load_skill

GOOD = """
name: {name}
description: test
mode: nep
success: {{kind: stand}}
"""


@pytest.mark.parametrize('name', list_skills())
def test_shipped_skills_load(name):
    assert load_skill(name).name == name


def test_unknown_skill_lists_the_known_ones():
    with pytest.raises(UserError, match=r"unknown skill 'nope'.*football.*stand"):
        load_skill('nope')


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        ('colour: red', "unknown field 'colour'"),
        ('scenario: {start_pos: [1, 2]}', 'start_pos has 2 entries; expected 3'),
        ('scenario: {object: ball}', r"scenario.object is 'ball'"),
        ('scenario: {duration_s: .nan}', 'finite'),
        ('objects: [{name: b, shape: ball, size: [1]}]', 'shape is'),
        ('objects: [{name: b, shape: sphere, size: [-1]}]', 'size is'),
        ('mode: both', 'mode is'),
        ('success: {kind: strike}', 'bodies is empty'),
        ('description: [', 'not valid YAML'),
    ],
)
def test_wrong_fields_are_named(tmp_path, extra, message):
    path = tmp_path / 'mine.yaml'
    key = extra.split(':')[0]
    lines = [line for line in GOOD.format(name='mine').splitlines() if not line.startswith(key)]
    path.write_text('\n'.join([*lines, extra]))
    with pytest.raises(UserError, match=message) as caught:
        load_skill(path)
    assert str(path) in str(caught.value)


def test_the_name_is_the_file_name(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text(GOOD.format(name='yours'))
    with pytest.raises(UserError, match="expected 'mine'"):
        load_skill(path)


def test_scenario_draws_are_seeded_and_within_range():
    scenario = load_skill('football').scenario
    first, again = sample(scenario, 5, generalise=True), sample(scenario, 5, generalise=True)
    np.testing.assert_array_equal(first.pos, again.pos)
    for seed in range(50):
        draw = sample(scenario, seed, generalise=True)
        assert (np.abs(draw.pos - scenario.start_pos) <= np.array(scenario.pos_range) + 1e-9).all()
        ratio = np.linalg.norm(draw.lin_vel) / np.linalg.norm(scenario.start_vel)
        assert abs(ratio - 1) <= scenario.speed_range + 1e-9
    nominal = sample(scenario, 1, generalise=False)
    np.testing.assert_array_equal(nominal.pos, scenario.start_pos)


def test_to_world_turns_with_the_heading():
    scenario = load_skill('football').scenario
    draw = sample(scenario, 0, generalise=False)
    yaw = np.pi / 2
    world = to_world(draw, np.array([1.0, 2.0, 0.7]), np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]))
    x, y, z = draw.pos
    np.testing.assert_allclose(world.pos, [1 - y, 2 + x, z], atol=1e-12)
    # Rolling without slip: velocity = spin x radius.
    np.testing.assert_allclose(np.cross(world.ang_vel, [0, 0, 0.11]), world.lin_vel, atol=1e-9)
