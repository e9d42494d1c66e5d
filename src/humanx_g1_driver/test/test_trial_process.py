"""A whole trial: real processes, real wire, real time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('humanx_msgs', reason='the message packages are not built')
pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.realtime]

from humanx_g1_driver.bag_judge import judge_bag  # noqa: E402
from humanx_g1_driver.bag_read import open_bag  # noqa: E402

DOMAIN = '68'
ENV = os.environ | {'ROS_DOMAIN_ID': DOMAIN, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def trial(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess, dict]:
    out = tmp_path / 'out.json'
    done = subprocess.run(
        [sys.executable, '-m', 'humanx.cli', 'trial', '--mode', 'nep', '--skill', 'stand', '--dds-domain', DOMAIN,
         '--json', str(out), '--record', str(tmp_path / 'bags'), *arguments],
        env=ENV, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    return done, json.loads(out.read_text()) if out.is_file() else {}


def test_two_trials_of_standing_succeed_and_their_bags_agree(tmp_path: Path) -> None:
    done, data = trial(tmp_path, '--trials', '2', '--seed', '11')
    assert done.returncode == 0, done.stdout + done.stderr
    assert data['successes'] == 2, data
    assert [r['seed'] for r in data['results']] == [11, 12]
    assert len(data['policy_sha256']) == 64
    for result in data['results']:
        assert result['real_time_factor'] == pytest.approx(1.0, abs=0.02)
        (judged,) = judge_bag(Path(result['bag']))
        assert (judged.verdict.success, judged.verdict.measures) == (result['success'], result['measures'])
        with open_bag(Path(result['bag'])) as reader:
            heard = {c.topic for c in reader.connections if c.msgcount}
        assert {
            '/humanx/joint_targets', '/humanx/robot_state', '/humanx/driver_status', '/humanx/policy_status',
            '/humanx/sim/truth', '/mocap/rigid_bodies', '/humanx/session', '/diagnostics',
        } <= heard  # fmt: skip


def test_a_robot_that_cannot_balance_fails_with_a_reason(tmp_path: Path) -> None:
    # 50 ms between command and torque: nobody balances with that.
    done, data = trial(tmp_path, '--trials', '1', '--param', 'sim_g1.actuation_delay_ms=50')
    assert done.returncode == 0, done.stdout + done.stderr
    assert data['successes'] == 0
    assert data['results'][0]['reason']
