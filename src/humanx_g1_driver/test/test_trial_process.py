"""A whole trial: real processes, real wire, real time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
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
    # An IMU with 11 degrees of noise: nobody balances with that.
    done, data = trial(
        tmp_path, '--trials', '1', '--param', 'sim_g1.noise.orientation=0.2', '--param', 'sim_g1.noise.gyro=2.0'
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert data['successes'] == 0
    assert data['results'][0]['reason']


def test_a_trial_killed_in_the_middle_leaves_a_bag_and_no_process(tmp_path: Path) -> None:
    bags = tmp_path / 'bags'
    process = subprocess.Popen(
        [sys.executable, '-m', 'humanx.cli', 'trial', '--mode', 'nep', '--skill', 'stand', '--dds-domain', DOMAIN,
         '--record', str(bags)], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size > 500_000 for p in bags.rglob('*.mcap')):
        assert time.monotonic() < deadline, 'nothing was recorded'
        assert process.poll() is None
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    (bag,) = (p for p in bags.iterdir() if p.is_dir())
    with open_bag(bag) as reader:
        assert reader.message_count > 500
