"""The judge on hand-made records."""

import numpy as np
import pytest

from humanx_description.judge import MotionGoal, SuccessRule, TrialRecord, judge

STRIKE = SuccessRule('strike', bodies=('foot',))


def record(seconds=6.0, *, touch=None, ball_vel=None, fall_at=None, touch_body='foot'):
    time = np.arange(0, seconds, 0.01)
    n = len(time)
    root_pos = np.tile([0.0, 0.0, 0.76], (n, 1))
    if fall_at is not None:
        root_pos[time >= fall_at, 2] = 0.2
    touches = np.zeros((n, 2), bool)
    velocity = np.tile([-1.0, 0.0, 0.0], (n, 1))
    if touch is not None:
        touches[(time >= touch) & (time < touch + 0.05), 0] = True
        velocity[time >= touch] = ball_vel
    pos = np.array([3.0, 0, 0.11]) + np.cumsum(velocity, 0) * 0.01
    return TrialRecord(
        time,
        root_pos,
        np.tile([1.0, 0, 0, 0], (n, 1)),
        np.zeros((n, 12, 3)),
        pos,
        velocity,
        touches,
        (touch_body, 'hand'),
        launch_time=0.5,
        partner=np.array([3.0, 0, 0]),
    )


def test_a_good_strike():
    verdict = judge(STRIKE, record(touch=2.0, ball_vel=[1.5, 0.1, 0]))
    assert verdict.success
    assert verdict.measures['speed'] == pytest.approx(np.hypot(1.5, 0.1))
    assert verdict.measures['touch_at'] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ('kwargs', 'reason'),
    [
        ({}, 'not touched'),
        ({'fall_at': 1.0}, 'fell before the touch'),
        ({'touch': 2.0, 'ball_vel': [0.8, 0, 0]}, 'left at 0.80 m/s'),
        ({'touch': 2.0, 'ball_vel': [1.0, 1.0, 0]}, 'degrees off'),
        ({'touch': 2.0, 'ball_vel': [-1.5, 0, 0]}, 'degrees off'),
        ({'touch': 2.0, 'ball_vel': [1.5, 0, 0], 'fall_at': 3.9}, 'fell after'),
        ({'touch': 2.0, 'ball_vel': [1.5, 0, 0], 'touch_body': 'knee'}, 'not touched'),
        ({'touch': 2.0, 'ball_vel': [1.5, 0, 0], 'seconds': 3.0}, 'ends too early'),
        ({'touch': 0.2, 'ball_vel': [1.5, 0, 0]}, 'not touched'),
    ],
)
def test_strikes_that_fail(kwargs, reason):
    verdict = judge(STRIKE, record(**kwargs))
    assert not verdict.success
    assert reason in verdict.reason


def test_falling_later_than_the_rule_asks_is_no_failure():
    assert judge(STRIKE, record(touch=2.0, ball_vel=[1.5, 0, 0], fall_at=4.5)).success


def test_stand_and_drift():
    rule = SuccessRule('stand', max_drift=0.2)
    still = record()
    assert judge(rule, still).success
    still.root_pos[-1, 0] = 0.3
    assert 'drifted' in judge(rule, still).reason
    assert judge(rule, record(fall_at=5.0)).reason == 'fell'


def test_motion_goal():
    rule = SuccessRule('motion', motion=(MotionGoal('pelvis', 'height', below=0.5),))
    trial = record()
    trial.key_body_pos[:, 0, 2] = 0.7
    assert not judge(rule, trial).success
    trial.key_body_pos[100, 0, 2] = 0.4
    assert judge(rule, trial).success


def test_hold_wants_one_piece():
    trial = record(touch=2.0, ball_vel=[0, 0, 0])
    assert not judge(SuccessRule('hold', bodies=('foot',), hold_s=0.1), trial).success
    trial.touch[200:230, 0] = True
    assert judge(SuccessRule('hold', bodies=('foot',), hold_s=0.1), trial).success


def test_non_finite_and_empty_records_fail():
    trial = record()
    trial.root_pos[3, 0] = np.nan
    assert 'not finite' in judge(STRIKE, trial).reason
    empty = TrialRecord(*(np.zeros((0, *s)) for s in [(), (3,), (4,), (12, 3), (3,), (3,), (0,)]))
    assert not judge(STRIKE, empty).success
