"""``humanx trial``: what it refuses before anything starts, and its summary."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('humanx_msgs', reason='the message packages are not built')
pytestmark = pytest.mark.ros

sys.path.insert(0, str(Path(__file__).parent))

from bag_factory import write_trial  # noqa: E402

from humanx.cli import main  # noqa: E402
from humanx_g1_driver.trial import graph_nodes, summary, write_json  # noqa: E402
from humanx_g1_driver.trial_report import driver_timing  # noqa: E402
from humanx_g1_driver.trial_types import TrialOptions, TrialResult  # noqa: E402
from humanx_g1_driver.video import render_bag  # noqa: E402


def options(tmp_path: Path, **chosen: object) -> TrialOptions:
    return TrialOptions(**{'mode': 'nep', 'skill': 'stand', 'trials': 2, 'seed': 5, 'directory': tmp_path, **chosen})


def test_the_simulated_mocap_gets_what_was_asked_for(tmp_path: Path) -> None:
    nodes = graph_nodes(options(tmp_path, dropout=0.1, burst=10, loss='gap', balls=3, generalise=True))
    sim = next(node for node in nodes if node.name == 'sim_g1')
    assert sim.parameters['mocap.dropout'] == 0.1
    assert sim.parameters['mocap.burst'] == 10
    assert sim.parameters['mocap.loss'] == 'gap'
    assert sim.parameters['balls'] == 3
    assert sim.parameters['generalise'] is True
    assert sim.parameters['seed'] == 5
    assert not any(node.name == 'recorder' for node in nodes)


def test_summary_has_rate_interval_and_every_trial(tmp_path: Path) -> None:
    results = [TrialResult(5, True, 'stood', '', {'drift': 0.1}, returns=1), TrialResult(6, False, 'fell', '')]
    data = summary(options(tmp_path), results, 'now')
    assert data['successes'] == 1
    assert data['success_rate'] == 0.5
    low, high = data['success_rate_wilson_95']
    assert (round(low, 3), round(high, 3)) == (0.095, 0.905)
    assert [r['reason'] for r in data['results']] == ['stood', 'fell']
    write_json(tmp_path / 'out.json', data)
    assert json.loads((tmp_path / 'out.json').read_text()) == data
    assert [p.name for p in tmp_path.iterdir()] == ['out.json']


def test_timing_of_a_bag_without_run_is_empty(tmp_path: Path) -> None:
    assert driver_timing(write_trial(tmp_path / 'a', 'stand', seconds=0.0)) == {}
    timing = driver_timing(write_trial(tmp_path / 'b', 'stand', seconds=1.0))
    assert timing['misses'] == 0


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--skill', 'juggle'], 'juggle'),
        (['--skill', 'stand', '--trials', '0'], '--trials is 0'),
        (['--skill', 'stand', '--dropout', '1.2'], '--dropout is 1.2'),
        (['--skill', 'stand', '--json', '/no/such/folder/x.json'], '--json'),
        (['--skill', 'stand', '--video', 'film.avi'], '.mp4'),
        (['--skill', 'stand', '--record', '/usr'], 'exists already'),
        (['--skill', 'stand', '--param', 'sim_g1.gravity=3'], 'gravity'),
    ],
)
def test_bad_choices_are_one_sentence_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(['trial', '--mode', 'nep', *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert len(printed.strip().splitlines()) == 1


def test_a_running_driver_is_left_alone(tmp_path: Path) -> None:
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=67)
    node = rclpy.create_node('g1_driver', context=context, namespace='/humanx')
    try:
        done = subprocess.run(
            [sys.executable, '-m', 'humanx.cli', 'trial', '--mode', 'nep', '--skill', 'stand', '--dds-domain', '67',
             '--record', str(tmp_path / 'bags')],
            env=os.environ | {'ROS_DOMAIN_ID': '67'}, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert done.returncode == 2
    assert 'g1_driver already runs in ROS domain 67' in done.stderr
    assert not (tmp_path / 'bags').exists()


def test_a_graph_that_fails_is_one_sentence_and_status_1(tmp_path: Path) -> None:
    """Not the status of Ctrl-C, with which the thread of the trials once ended the command."""
    done = subprocess.run(
        [sys.executable, '-m', 'humanx.cli', 'trial', '--mode', 'nep', '--skill', 'stand', '--dds-domain', '69',
         '--record', str(tmp_path / 'bags'), '--param', 'sim_g1.mocap.rate_hz=1'],
        env=os.environ | {'ROS_DOMAIN_ID': '69'}, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith('humanx:')]
    assert len(said) == 1, done.stderr
    assert 'the graph stopped' in said[0]
    assert 'status 2' in said[0]
    assert 'Traceback' not in done.stderr
    assert 'mocap.rate_hz' in (tmp_path / 'bags' / 'nodes.log').read_text()


def test_a_film_of_a_bag(tmp_path: Path) -> None:
    pytest.importorskip('imageio_ffmpeg')
    bag = write_trial(tmp_path / 'bag', 'football', seconds=0.3)
    out = tmp_path / 'film.mp4'
    try:
        frames = render_bag(bag, out, width=160, height=120)
    except Exception as error:
        if 'cannot render' in str(error):
            pytest.skip(str(error))
        raise
    import imageio.v2 as imageio

    assert frames == 20
    with imageio.get_reader(out) as film:
        images = list(film.iter_data())
    assert len(images) == frames
    # The robot is in the middle of the picture: darker and brighter than the sky above it.
    assert images[-1][30:100, 50:110].std() > 10
    assert not list(tmp_path.glob('.film*'))
