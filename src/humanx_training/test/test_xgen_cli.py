"""``humanx xgen extract`` and ``retarget``: exit codes, sentences, files left alone."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from humanx_description.errors import UserError
from humanx_training.xgen import cli
from humanx_training.xgen.human_motion import load_human_motion
from humanx_training.xgen.robot_motion import load_robot_motion


def run(*argv):
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers(dest='command', required=True))
    args = parser.parse_args(['xgen', *map(str, argv)])
    return args.run(args)


def test_extract_then_retarget(person, tmp_path, capsys):
    source = tmp_path / 'smpl.npz'
    poses = np.zeros((31, 72))
    poses[:, 0] = np.pi / 2
    np.savez(source, poses=poses, trans=np.tile([0, 0, 1.17], (31, 1)), mocap_framerate=30)
    assert run('extract', source, '-o', tmp_path / 'human.npz') == 0
    assert load_human_motion(tmp_path / 'human.npz').num_frames == 31
    assert '31 frames at 30 Hz' in capsys.readouterr().out
    command = ('retarget', tmp_path / 'human.npz', '-o', tmp_path / 'robot.npz', '--rate', 100, '--stance-after', 0.5)
    assert run(*command) == 0
    motion = load_robot_motion(tmp_path / 'robot.npz')
    assert motion.fps == 100
    assert motion.duration == pytest.approx(1.0 + 1.0 + 1.0 + 1.2 + 0.5, abs=0.1)
    assert 'skate' in capsys.readouterr().out


def test_bad_input_leaves_the_earlier_output(person, tmp_path):
    out = tmp_path / 'out.npz'
    person.save(out)
    before = out.read_bytes()
    (tmp_path / 'bad.npz').write_bytes(b'zzz')
    for action in ('extract', 'retarget'):
        with pytest.raises(UserError, match=r'bad\.npz'):
            run(action, tmp_path / 'bad.npz', '-o', out)
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ['bad.npz', 'out.npz']


@pytest.mark.parametrize(
    ('out', 'said'),
    [('a.txt', "ending '.txt'"), ('no/such/a.npz', 'does not exist'), ('in.npz', 'is the input itself')],
)
def test_bad_output_paths_are_refused_before_any_work(person, tmp_path, out, said):
    person.save(tmp_path / 'in.npz')
    with pytest.raises(UserError, match=said):
        run('extract', tmp_path / 'in.npz', '-o', tmp_path / out)


def test_bad_numbers(person, tmp_path):
    person.save(tmp_path / 'in.npz')
    with pytest.raises(UserError, match='--rate is 5'):
        run('retarget', tmp_path / 'in.npz', '-o', tmp_path / 'o.npz', '--rate', 5)
    with pytest.raises(UserError, match='entry is 0'):
        run('retarget', tmp_path / 'in.npz', '-o', tmp_path / 'o.npz', '--entry', 0)
    with pytest.raises(UserError, match='outside the clip'):
        run('retarget', tmp_path / 'in.npz', '-o', tmp_path / 'o.npz', '--start', 30)
    assert not (tmp_path / 'o.npz').exists()
