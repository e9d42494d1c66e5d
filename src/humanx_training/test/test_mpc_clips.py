"""From a clip set to a kick's teacher: which part of the body's motion is taken, and how the balls come."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.scene import default_qpos
from humanx_training.clip import InteractionClip, Phase
from humanx_training.xmimic.mpc.arrivals import Arrivals, arrivals_of
from humanx_training.xmimic.mpc.command import anchor_interaction, load_teacher_clips
from humanx_training.xmimic.mpc.reference import KickStyle

FPS, STRIKE, FRAMES = 100.0, 250, 400
FIRST = 50  # frame from which the ball rolls


def strike_clip(start=(2.5, 0.0), contact=(0.5, 0.0)) -> InteractionClip:
    """A robot whose right knee bends more and more, and a ball that rolls steadily to where it is struck."""
    qpos = np.tile(default_qpos()[:36], (FRAMES, 1))
    qpos[:, 7 + robot.JOINT_NAMES.index('right_knee_joint')] += 0.001 * np.arange(FRAMES)
    way = np.clip((np.arange(FRAMES) - FIRST) / (STRIKE - FIRST), 0.0, 1.0)[:, None]
    ball = np.concatenate([(1 - way) * np.array(start) + way * np.array(contact), np.full((FRAMES, 1), 0.11)], 1)
    touches = np.zeros((FRAMES, 1), bool)
    touches[STRIKE : STRIKE + 2] = True
    return InteractionClip(
        FPS, qpos[:, :3], qpos[:, 3:7], qpos[:, 7:], 'ball', {'shape': 'sphere', 'size': [0.11], 'mass': 0.43}, ball,
        np.tile([1.0, 0, 0, 0], (FRAMES, 1)), touches, ('right_ankle_roll_link',),
        (
            Phase('rest', 0, FIRST), Phase('flight', FIRST, STRIKE),
            Phase('contact', STRIKE, STRIKE + 2, 'right_ankle_roll_link'), Phase('flight', STRIKE + 2, FRAMES),
        ),
    )  # fmt: skip


def test_arrivals_are_relative_to_the_original(tmp_path):
    turned = np.radians(10.0)
    other = strike_clip(start=(0.5 + 1.5 * np.cos(turned), 0.03 + 1.5 * np.sin(turned)), contact=(0.5, 0.03))
    arrivals = arrivals_of([(tmp_path / 'a', strike_clip()), (tmp_path / 'b', other)])
    np.testing.assert_allclose(arrivals.distance, [2.0, 1.5], atol=0.02)
    np.testing.assert_allclose(arrivals.azimuth, [0.0, turned], atol=1e-9)
    np.testing.assert_allclose(arrivals.speed, [1.0, 0.75], rtol=1e-6)
    np.testing.assert_allclose(arrivals.offset, [0.0, 0.03], atol=1e-9)
    arrivals.save(tmp_path / 'arrivals.npz')
    np.testing.assert_array_equal(Arrivals.load(tmp_path / 'arrivals.npz').speed, arrivals.speed)


def test_the_bodys_motion_is_put_on_the_clock_of_the_style(tmp_path):
    style = KickStyle()
    anchored = anchor_interaction(tmp_path / 'a', strike_clip(), style)
    knee = robot.JOINT_NAMES.index('right_knee_joint')
    at_contact = anchored.joint_pos[round(style.contact / 0.01), knee] - robot.DEFAULT_JOINT_POS[knee]
    assert at_contact == pytest.approx(0.001 * (STRIKE - round(style.strike_lead * FPS)), abs=1.1e-3)


def test_a_folder_of_clips_gives_body_and_arrivals(tmp_path):
    for index, start in enumerate([(2.5, 0.0), (2.8, 0.2)]):
        strike_clip(start=start).save(tmp_path / f'clip_{index:03d}.npz')
    _body, arrivals = load_teacher_clips([tmp_path], KickStyle())
    assert arrivals is not None
    assert len(arrivals) == 2


def without(clip: InteractionClip, **changes) -> InteractionClip:
    return dataclasses.replace(clip, **changes)


@pytest.mark.parametrize(
    ('clip', 'said'),
    [
        (without(strike_clip(), phases=()), 'phases hold no contact'),
        (without(strike_clip(), object_pos=np.tile([0.5, 0, 0.11], (FRAMES, 1))), 'object_pos does not move'),
    ],
)
def test_clips_without_a_strike_or_a_coming_ball_are_refused(tmp_path, clip, said):
    with pytest.raises(UserError, match=said):
        arrivals_of([(tmp_path / 'a.npz', clip)])


def test_a_strike_too_early_for_the_run_up_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'the strike comes after 2\.50 s; expected at least the 3\.05 s'):
        anchor_interaction(tmp_path / 'a.npz', strike_clip(), KickStyle(contact=3.0))


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds no clip'):
        load_teacher_clips([tmp_path], KickStyle())
