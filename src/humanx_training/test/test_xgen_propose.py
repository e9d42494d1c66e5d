"""Suggested contacts: from made-up signals, from a real kick and a real box, and on the command line."""

import cv2
import numpy as np
import pytest
import yaml

from humanx.cli import main
from humanx_training.xgen.propose import Signals, propose, signals
from humanx_training.xgen.recipe import recipe_of
from humanx_training.xgen.source_motion import robot_motion

TIME = np.arange(0, 4, 0.02)


def made_up(**changes):
    """Return the signals of somebody who stands still with hanging arms."""
    still = Signals(
        time=TIME,
        speed=np.full((len(TIME), 4), 0.05),
        palm_distance=np.full(len(TIME), 0.45),
        stepping=np.zeros((len(TIME), 2), dtype=bool),
        palms_ahead=np.full(len(TIME), 0.02),
        palms_facing=np.full(len(TIME), 0.9),
    )
    return Signals(**{**vars(still), **changes})


def bump(at, height, width=0.1):
    return height * np.exp(-(((TIME - at) / width) ** 2))


def test_nothing_happens_nothing_is_suggested():
    assert propose(made_up()) == []


def test_a_kick_outranks_steps_that_are_as_fast():
    speed = np.full((len(TIME), 4), 0.05)
    speed[:, 0] += bump(0.6, 3.0) + bump(1.8, 3.0)
    speed[:, 1] += bump(1.2, 3.0) + bump(3.0, 3.0)
    stepping = np.zeros((len(TIME), 2), dtype=bool)
    for foot, at in ((0, 0.6), (0, 1.8), (1, 1.2)):
        stepping[np.abs(TIME - at) < 0.3, foot] = True
    best, *others = propose(made_up(speed=speed, stepping=stepping))
    assert (best.kind, best.anchor, best.score) == ('strike', 'right_ankle_roll_link', 1.0)
    assert best.start < 3.0 < best.end
    assert all(other.score <= 0.51 for other in others)


def test_a_hold_needs_hands_in_front_that_face_each_other():
    carried = (TIME > 1.0) & (TIME < 3.0)
    ahead = np.where(carried, 0.3, 0.02)
    (found,) = propose(made_up(palms_ahead=ahead))
    assert (found.kind, found.anchor) == ('hold', 'palms')
    assert found.start == pytest.approx(1.0, abs=0.05)
    assert found.end == pytest.approx(3.0, abs=0.05)
    assert propose(made_up(palms_ahead=ahead, palms_facing=np.full(len(TIME), -0.5))) == []
    assert propose(made_up(palms_ahead=ahead, palm_distance=np.full(len(TIME), 0.9))) == []
    # Hands that open and close all the time hold nothing.
    assert propose(made_up(palms_ahead=ahead, palm_distance=0.4 + 0.2 * np.sin(20 * TIME))) == []


def test_the_release_of_a_throw_counts_less_than_the_hold_before_it():
    carried = TIME < 2.0
    speed = np.full((len(TIME), 4), 0.05)
    speed[:, 2:] += bump(2.2, 4.0)[:, None]
    speed[:, 3] += bump(3.5, 3.0)
    found = propose(made_up(speed=speed, palms_ahead=np.where(carried, 0.3, 0.0)))
    assert next(p for p in found if p.kind == 'hold').score > next(p for p in found if p.start < 2.2 < p.end).score


def test_the_kick_is_found_where_the_skill_file_has_it(data):
    recipe = _only('football')
    motion = robot_motion(recipe)
    seen = signals(motion)
    best = propose(seen)[0]
    assert (best.kind, best.anchor) == ('strike', recipe.contacts[0].anchor)
    strike = seen.time[seen.speed[:, 1].argmax()]
    assert best.start < strike < best.end
    assert best.end - best.start < 0.4


def _only(skill):
    from humanx_description.skills import load_skill

    return recipe_of(load_skill(skill), skill)


def test_the_command_on_the_box_prints_yaml_and_draws(data, tmp_path, capsys):
    box = data / 'g1_box' / 'sub3_largebox_003_mj_w_obj.npz'
    picture = tmp_path / 'box.png'
    assert main(['xgen', 'propose', str(box), '--plot', str(picture)]) == 0
    first = yaml.safe_load(capsys.readouterr().out)['contacts'][0]
    # The box is in the hands from 0.7 s (0.2 + 0.75 s in the skill file, when it leaves the floor) to 5.5 s.
    assert (first['kind'], first['anchor']) == ('hold', 'palms')
    assert first['start'] < 0.95 < 5.0 < first['end'] < 5.8
    image = cv2.imread(str(picture))
    assert image is not None
    assert image.shape[0] > 400
    # Curves and coloured bars, not an empty frame.
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['nowhere.mp4'], 'nowhere.mp4: does not exist'),
        (['BOX', '--plot', 'a.jpg'], "a.jpg: expected a name that ends in .png"),
        (['BOX', '--plot', 'nowhere/a.png'], 'in an existing folder'),
        (['BOX', '--most', '0'], '--most is 0; expected at least 1'),
    ],
)
def test_wrong_commands(data, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    box = str(data / 'g1_box' / 'sub3_largebox_003_mj_w_obj.npz')
    assert main(['xgen', 'propose', *[box if a == 'BOX' else a for a in arguments]]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_stroke_of_the_video_is_among_the_suggestions(data):
    recipe = _only('badminton')
    seen = signals(robot_motion(recipe))
    contact = recipe.contacts[0]
    low, high = contact.start * recipe.time_scale, contact.end * recipe.time_scale
    found = propose(seen)
    assert any(p.kind == 'strike' and p.anchor == 'right_palm' and p.start < high and p.end > low for p in found[:3])
