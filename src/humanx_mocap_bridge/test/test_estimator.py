"""The bridge's core without ROS: frame changes, twist, and every way a mocap system loses a body."""

import math

import numpy as np
import pytest

from humanx_mocap_bridge import quaternion as quat
from humanx_mocap_bridge.estimator import Body, Estimator, SourceFrame
from humanx_mocap_bridge.frames import FrameChange, attach, valid_pose
from humanx_mocap_bridge.track import Limits, Loss
from humanx_mocap_bridge.twist import estimate_twist

IDENTITY = np.array([1.0, 0, 0, 0])
DT = 0.01


def turn(axis, angle: float) -> np.ndarray:
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    return np.concatenate([[math.cos(angle / 2)], math.sin(angle / 2) * axis])


def pose(position, rotation=IDENTITY) -> np.ndarray:
    return np.concatenate([np.asarray(position, float), rotation])


class Capture:
    """A pelvis that stands, a ball that rolls, noise; frames at 100 Hz go into an estimator."""

    def __init__(self, seed: int = 0, **options) -> None:
        bodies = [
            Body('pelvis', 'Robot', Limits(max_speed=5, max_turn=20)),
            Body('ball', 'Ball', Limits(max_speed=15)),
        ]
        self.estimator = Estimator(bodies, **options)
        self.rng = np.random.default_rng(seed)
        self.k = 0

    @property
    def now(self) -> float:
        return 100 + DT * self.k

    def truth(self) -> dict[str, np.ndarray]:
        return {
            'Robot': np.array([0.0, 0.0, 0.76]),
            'Ball': np.array([3.0 - 1.5 * DT * self.k, 0.2, 0.11]),
        }

    def poses(self) -> dict[str, np.ndarray]:
        return {n: pose(p + 5e-4 * self.rng.normal(size=3)) for n, p in self.truth().items()}

    def step(self, change=lambda poses: poses, *, send=True, time=None, number=None, late=0.003):
        """One tick: a frame captured ``late`` s ago (or stamped ``time``) comes in, the report comes out."""
        self.k += 1
        if send:
            stamp = self.now - late if time is None else time
            number = self.k if number is None else number
            poses = {n: p for n, p in change(self.poses()).items() if p is not None}
            self.estimator.frame(SourceFrame(stamp, poses, number), self.now)
        return {r.role: r for r in self.estimator.report(self.now)}

    def warm(self, ticks: int = 20):
        for _ in range(ticks):
            report = self.step()
        return report


def test_y_up_millimetres_become_z_up_metres():
    # OptiTrack: y up, z towards the viewer. One metre up and two metres "away" (-z).
    change = FrameChange('y', 'mm')
    got = change.pose(pose([500, 1000, -2000]))
    np.testing.assert_allclose(got[:3], [0.5, 2.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(got[3:], IDENTITY, atol=1e-12)
    # A turn about the source's up axis is a turn about ours.
    got = change.pose(pose([0, 0, 0], turn([0, 1, 0], 0.7)))
    np.testing.assert_allclose(got[3:], turn([0, 0, 1], 0.7), atol=1e-12)


def test_origin_moves_and_turns():
    change = FrameChange('z', 'm', (1.0, 2.0, 0.0, math.pi / 2))
    got = change.pose(pose([1, 0, 0.5], turn([1, 0, 0], 0.3)))
    np.testing.assert_allclose(got[:3], [1, 3, 0.5], atol=1e-12)
    want = quat.multiply(turn([0, 0, 1], math.pi / 2), turn([1, 0, 0], 0.3))
    np.testing.assert_allclose(got[3:], want, atol=1e-12)


def test_offset_is_in_the_tracked_frame():
    tracked = pose([1, 1, 1], turn([0, 0, 1], math.pi / 2))
    got = attach(tracked, pose([0.1, 0, -0.2], turn([0, 0, 1], -math.pi / 2)))
    np.testing.assert_allclose(got[:3], [1, 1.1, 0.8], atol=1e-12)
    np.testing.assert_allclose(got[3:], IDENTITY, atol=1e-12)


@pytest.mark.parametrize(
    'bad',
    [
        pose([np.nan, 0, 1]),
        pose([1, np.inf, 1]),
        pose([0, 0, 0]),
        pose([1, 1, 1], np.zeros(4)),
        pose([1, 1, 1], np.array([0.8, 0, 0, 0])),
    ],
)
def test_what_is_no_pose(bad):
    assert valid_pose(bad) is None


def test_twist_of_flight_and_spin():
    rng = np.random.default_rng(0)
    times = np.arange(0, 0.4, DT)
    velocity, spin = np.array([3.0, -1.0, 4.0]), np.array([0.5, 2.0, -1.0])
    gravity = np.array([0, 0, -9.81])
    errors = []
    for end in range(8, len(times)):
        t = times[:end]
        keep = rng.random(end) > 0.25  # dropout: samples at their own times
        keep[-1] = True
        t = t[keep]
        position = velocity * t[:, None] + 0.5 * gravity * t[:, None] ** 2
        position += 5e-4 * rng.normal(size=position.shape)
        rotation = [turn(spin, np.linalg.norm(spin) * s) for s in t]
        got = estimate_twist(t, np.concatenate([position, rotation], axis=1))
        errors.append(got[:3] - velocity - gravity * t[-1])
        np.testing.assert_allclose(got[3:], spin, atol=1e-6)
    errors = np.array(errors)
    assert np.abs(errors.mean(axis=0)).max() < 0.05  # a line would be 0.3 m/s off in z
    assert errors.std() < 0.12


def test_tracked_bodies_are_reported_with_pose_age_and_twist():
    report = Capture().warm()
    ball = report['ball']
    assert ball.tracked
    assert ball.loss == Loss.NONE
    assert ball.occlusion_frames == 0
    assert ball.age == pytest.approx(0.003)
    np.testing.assert_allclose(ball.pose[:3], [2.7, 0.2, 0.11], atol=3e-3)
    np.testing.assert_allclose(ball.twist[:3], [-1.5, 0, 0], atol=0.15)


def test_never_seen():
    capture = Capture()
    report = capture.step(lambda p: {'Robot': p['Robot']})
    assert report['pelvis'].tracked
    ball = report['ball']
    assert (ball.loss, ball.tracked, ball.age) == (Loss.NEVER_SEEN, False, math.inf)
    np.testing.assert_array_equal(ball.pose, pose([0, 0, 0]))


@pytest.mark.parametrize('frames', [1, 2, 10, 50])
def test_a_missing_body_keeps_its_pose_and_comes_back(frames):
    capture = Capture()
    last = capture.warm()['ball']
    for k in range(1, frames + 1):
        report = capture.step(lambda p: {'Robot': p['Robot']})
        ball = report['ball']
        assert (ball.tracked, ball.loss, ball.occlusion_frames) == (False, Loss.MISSING, k)
        assert ball.age == pytest.approx(0.003 + k * DT)
        np.testing.assert_array_equal(ball.pose, last.pose)
        np.testing.assert_array_equal(ball.twist, np.zeros(6))
        assert report['pelvis'].tracked
    for _ in range(4):
        ball = capture.step()['ball']
        assert ball.tracked
        assert ball.occlusion_frames == 0
    # The velocity is right again although frames were lost within or before the window.
    np.testing.assert_allclose(ball.twist[:3], [-1.5, 0, 0], atol=0.2)


def test_a_silent_source_loses_everything_within_the_hold():
    capture = Capture(hold=0.025)
    capture.warm()
    losses = [capture.step(send=False)['ball'] for _ in range(5)]
    assert [b.tracked for b in losses] == [True, True, False, False, False]
    assert losses[-1].loss == Loss.MISSING


def test_stale_and_future_stamps():
    capture = Capture(max_latency=0.05)
    capture.warm()
    for kwargs in ({'late': 0.2}, {'late': -1.0}):
        ball = capture.step(**kwargs)['ball']
        assert (ball.tracked, ball.loss) == (False, Loss.STALE)
        assert capture.step()['ball'].tracked
    assert capture.estimator.counters.stale == 2


def test_a_stamp_that_stands_still_ages():
    capture = Capture()
    capture.warm()
    stamp = capture.now - 0.003
    reports = [capture.step(time=stamp)['ball'] for _ in range(4)]
    assert [r.tracked for r in reports] == [True, True, False, False]
    assert capture.estimator.counters.repeated_stamps == 4


@pytest.mark.parametrize('ticks', [10, 30, 1000])
def test_a_clock_set_back_is_survived(ticks):
    capture = Capture()
    capture.warm()
    capture.k -= ticks  # both clocks 0.1 to 10 s earlier
    capture.rng = np.random.default_rng(5)
    report = capture.step()
    assert report['ball'].age < 0.1
    for _ in range(10):
        report = capture.step()
    assert report['ball'].tracked
    np.testing.assert_allclose(report['ball'].twist[:3], [-1.5, 0, 0], atol=0.3)


def test_nothing_is_tracked_from_the_future_of_a_clock_that_was_set_back():
    capture = Capture()
    capture.warm()
    capture.k -= 30
    report = capture.step(send=False)
    assert [(r.tracked, r.loss) for r in report.values()] == [(False, Loss.STALE)] * 2


def test_frozen_pose_is_lost_after_two_repetitions():
    capture = Capture()
    capture.warm()
    frozen = capture.poses()['Ball']
    got = [capture.step(lambda p: p | {'Ball': frozen})['ball'] for _ in range(6)]
    assert [b.tracked for b in got] == [True, True, False, False, False, False]
    assert got[-1].loss == Loss.FROZEN
    assert got[-1].occlusion_frames == 4
    assert got[-1].age == pytest.approx(0.003 + 5 * DT)
    assert capture.step()['ball'].tracked


def test_a_still_body_with_noise_is_not_frozen():
    capture = Capture()
    for _ in range(100):
        report = capture.step()
        assert report['pelvis'].tracked


@pytest.mark.parametrize('bad', [pose([np.nan] * 3), pose([0, 0, 0]), pose([1, 1, 1], np.zeros(4))])
def test_invalid_pose(bad):
    capture = Capture()
    capture.warm()
    ball = capture.step(lambda p: p | {'Ball': bad})['ball']
    assert (ball.tracked, ball.loss) == (False, Loss.INVALID)
    assert capture.step()['ball'].tracked


def moved(by):
    return lambda p: p | {'Ball': p['Ball'] + np.array([*by, 0, 0, 0, 0])}


def test_a_jump_is_refused_and_its_return_accepted():
    capture = Capture()
    last = capture.warm()['ball']
    for _ in range(5):
        ball = capture.step(moved([0, 2, 0]))['ball']
        assert (ball.tracked, ball.loss) == (False, Loss.JUMP)
        np.testing.assert_array_equal(ball.pose, last.pose)
    assert capture.step()['ball'].tracked


def test_a_body_that_was_moved_unseen_is_believed_after_a_while():
    capture = Capture()
    capture.warm()
    # 12 m: beyond what 15 m/s allow for as long as it is doubted
    got = [capture.step(moved([0, 12, 0]))['ball'].tracked for _ in range(12)]
    assert got == [False] * 9 + [True] * 3


def test_scattered_jumps_are_never_believed():
    capture = Capture()
    capture.warm()
    for k in range(30):
        place = [0, 12 + 3 * (-1) ** k, 0]
        assert not capture.step(moved(place))['ball'].tracked


def test_a_kick_is_not_a_jump():
    capture = Capture()
    capture.warm()
    start = capture.k

    def kicked(poses):
        flight = DT * (capture.k - start)
        return moved([12.0 * flight, 0, 3.0 * flight])(poses)

    for _ in range(20):
        assert capture.step(kicked)['ball'].tracked


def test_a_flipped_pelvis_is_a_jump_a_flipped_ball_is_not():
    capture = Capture()
    capture.warm()

    def flip(poses):
        return {n: pose(p[:3], turn([0, 0, 1], math.pi)) for n, p in poses.items()}

    report = capture.step(flip)
    assert report['pelvis'].loss == Loss.JUMP
    assert report['ball'].tracked


def swap(poses):
    return {'Robot': poses['Ball'], 'Ball': poses['Robot']}


def test_swapped_bodies_are_lost_until_the_labels_are_right_again():
    capture = Capture()
    last = capture.warm()
    for k in range(40):  # longer than a jump would need to be believed
        report = capture.step(swap)
        for role in ('pelvis', 'ball'):
            assert (report[role].tracked, report[role].loss) == (False, Loss.SWAP), (k, role)
            np.testing.assert_array_equal(report[role].pose, last[role].pose)
    report = capture.step()
    assert report['pelvis'].tracked
    assert report['ball'].tracked


def test_swap_with_frames_lost_in_between():
    capture = Capture()
    capture.warm()
    for k in range(30):
        change = (lambda p: {'Robot': p['Ball']}) if k % 3 == 2 else swap
        report = capture.step(change)
        assert not report['pelvis'].tracked
        assert not report['ball'].tracked
    report = capture.step()
    assert report['pelvis'].tracked
    assert report['ball'].tracked


def test_a_label_that_goes_over_to_another_body():
    capture = Capture()
    capture.warm()
    report = capture.step(lambda p: {'Robot': p['Robot'], 'Ball': p['Robot'] + 1e-3})
    assert (report['ball'].tracked, report['ball'].loss) == (False, Loss.SWAP)
    assert report['pelvis'].tracked


def test_renamed_body_is_missing_and_its_new_name_is_known():
    capture = Capture()
    capture.warm()
    report = capture.step(lambda p: {'Robot': p['Robot'], 'Ball 2': p['Ball']})
    assert report['ball'].loss == Loss.MISSING
    assert capture.estimator.counters.unknown_bodies == {'Ball 2'}


def test_gaps_in_the_frame_number_are_counted():
    capture = Capture()
    capture.warm(3)
    capture.step(number=capture.k + 6)
    assert capture.estimator.counters.missing_numbers == 5
    capture.step(number=1)
    assert capture.estimator.counters.restarts == 1


def test_poses_that_come_one_by_one_lose_only_their_own_body():
    capture = Capture()
    estimator = capture.estimator
    for k in range(30):
        capture.k += 1
        for offset, (name, p) in enumerate(capture.poses().items()):
            if name == 'Ball' and k >= 20:
                continue
            stamp = capture.now - 0.004 - 0.001 * offset
            estimator.frame(SourceFrame(stamp, {name: p}, complete=False), capture.now)
        report = {r.role: r for r in estimator.report(capture.now)}
    assert report['pelvis'].tracked
    assert report['ball'].loss == Loss.MISSING
    assert report['ball'].age == pytest.approx(0.105)


def test_random_dropout_reports_exactly_the_lost_frames():
    capture = Capture(seed=3)
    capture.warm()
    drop = np.random.default_rng(4).random(500) < 0.2
    for lost in drop:
        report = capture.step(lambda p, lost=lost: {'Robot': p['Robot']} if lost else p)
        assert report['ball'].tracked is not bool(lost)
