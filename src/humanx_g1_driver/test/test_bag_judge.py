"""Verdicts from bags alone."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('humanx_msgs', reason='the message packages are not built')
pytestmark = pytest.mark.ros

import sys  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

from bag_factory import write_trial  # noqa: E402

from humanx_description.errors import UserError  # noqa: E402
from humanx_g1_driver.bag_judge import judge_bag  # noqa: E402
from humanx_g1_driver.bag_write import BagWriter, qos  # noqa: E402


def only(path: Path):
    judged = judge_bag(path)
    assert len(judged) == 1
    return judged[0]


def test_standing_throughout_succeeds_at_real_time(tmp_path: Path) -> None:
    run = only(write_trial(tmp_path / 'bag', 'stand'))
    assert run.verdict.success
    assert run.seed == 3
    assert run.real_time_factor == pytest.approx(1.0)
    # Cut at the scenario's end, though the bag goes on.
    assert run.verdict.measures['duration'] == pytest.approx(8.0, abs=0.02)


def test_a_fall_fails_and_a_fall_after_the_trial_does_not(tmp_path: Path) -> None:
    assert only(write_trial(tmp_path / 'a', 'stand', fall_at=4.0)).verdict.reason == 'fell'
    assert only(write_trial(tmp_path / 'b', 'stand', fall_at=8.3)).verdict.success


def test_a_driver_that_gives_up_fails_the_trial_with_its_reason(tmp_path: Path) -> None:
    verdict = only(write_trial(tmp_path / 'bag', 'stand', damp_at=5.0)).verdict
    assert not verdict.success
    assert 'joint targets stopped' in verdict.reason


def test_damping_after_the_trial_is_no_failure(tmp_path: Path) -> None:
    assert only(write_trial(tmp_path / 'bag', 'stand', damp_at=8.2)).verdict.success


@pytest.mark.parametrize(
    ('case', 'success', 'said'),
    [
        ({'touch_at': 4.0}, True, 'struck'),
        ({}, False, 'not touched'),
        ({'touch_at': 4.0, 'kick': (0.5, 0.0)}, False, 'left at 0.50'),
        ({'touch_at': 4.0, 'kick': (1.5, 1.5)}, False, 'degrees off'),
        ({'touch_at': 4.0, 'fall_at': 5.0}, False, 'fell after'),
        ({'touch_at': 8.0}, False, 'too early'),
    ],
)
def test_a_kick_is_judged_by_touch_direction_speed_and_uprightness(
    tmp_path: Path, case: dict, success: bool, said: str
) -> None:
    verdict = only(write_trial(tmp_path / 'bag', 'football', **case)).verdict
    assert (verdict.success, said in verdict.reason) == (success, True), verdict


def test_each_ball_of_a_rally_is_judged_by_itself(tmp_path: Path) -> None:
    judged = judge_bag(write_trial(tmp_path / 'bag', 'football', seconds=16, launches=(1.0, 9.0), touch_at=4.0))
    assert [run.launch for run in judged] == [1, 2]
    assert judged[0].verdict.success
    assert judged[1].verdict.reason == 'not touched'


@pytest.mark.parametrize(('damp_at', 'left'), [(18.0, False), (12.0, True)])
def test_a_rally_ends_when_the_last_ball_has_had_its_time(tmp_path: Path, damp_at: float, left: bool) -> None:
    bag = write_trial(tmp_path / 'bag', 'football', seconds=20, launches=(1.0, 9.0), touch_at=4.0, damp_at=damp_at)
    assert all(('left RUN' in run.verdict.reason) == left for run in judge_bag(bag))


def test_a_killed_recording_gives_the_same_verdict(tmp_path: Path) -> None:
    bag = write_trial(tmp_path / 'bag', 'football', touch_at=4.0)
    before = only(bag)
    content = (bag / 'bag.mcap').read_bytes()
    (bag / 'metadata.yaml').unlink()
    (bag / 'bag.mcap').write_bytes(content[: content.rfind(b'rosbag2')])
    after = only(bag)
    assert json.dumps(after.verdict.measures) == json.dumps(before.verdict.measures)
    assert after.verdict.success


def test_a_bag_that_cannot_be_judged_says_why(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / 'other')
    writer.add_topic('/x', 'std_msgs/msg/String', qos())
    writer.write('/x', 1, b'\x00\x01\x00\x00\x02\x00\x00\x00a\x00')
    writer.close()
    with pytest.raises(UserError, match='which skill'):
        judge_bag(tmp_path / 'other')
    write_trial(tmp_path / 'waiting', 'stand', seconds=0.0)
    with pytest.raises(UserError, match='never was in RUN'):
        judge_bag(tmp_path / 'waiting')


def test_cut_keeps_every_column_together(tmp_path: Path) -> None:
    from humanx_g1_driver.bag_judge import read_runs
    from humanx_g1_driver.bag_read import open_bag

    with open_bag(write_trial(tmp_path / 'bag', 'football', touch_at=4.0)) as reader:
        (truth,) = read_runs(reader)
    part = truth.cut(truth.time > 3.99)
    assert len(part.contacts) == len(part.time) == len(part.qpos) == len(part.partner)
    assert part.contacts[1]
    assert np.all(part.time > 3.99)
