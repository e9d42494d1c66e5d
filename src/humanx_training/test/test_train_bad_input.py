"""What does not fit a training, an export or an evaluation: one sentence, status 2, nothing overwritten.

Each through the real command.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from humanx.cli import main
from humanx_description.errors import UserError
from humanx_policy.export import Mlp, write_policy
from humanx_policy.metadata import PolicyMetadata
from humanx_policy.observation import ObservationLayout, nep_terms
from humanx_training.xmimic import config as cfg
from humanx_training.xmimic import export, memory, train_command
from humanx_training.xmimic.clip_set import make_clip_set
from humanx_training.xmimic.dagger import distil
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.failure import kept_failures
from humanx_training.xmimic.ppo import make_model

sys.path.insert(0, str(Path(__file__).parent))
from clips_for_tests import standing

SMALL = ['--envs', '8', '--iterations', '1']
SETTINGS = ['ppo.hidden=[16]', 'ppo.steps=4', 'evaluate_every=5']


def train(kind: str, *more: str, settings: tuple[str, ...] = ()) -> int:
    torch.set_num_threads(1)
    options = ['train', kind, '--skill', 'football', *SMALL, *more]
    return main([*options, '--threads', '1', '--set', *SETTINGS, *settings])


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> Path:
    """Clips, a teacher ``t``, its student ``s``, and clips that do not fit."""
    folder = tmp_path_factory.mktemp('made')
    standing(80).save(folder / 'clip.npz')
    values = dict(np.load(folder / 'clip.npz'))
    names = values['joint_names'].copy()
    names[[0, 1]] = names[[1, 0]]
    np.savez(folder / 'order.npz', **{**values, 'joint_names': names})
    np.savez(folder / 'robot.npz', **{**values, 'joint_names': names[:20], 'joint_pos': values['joint_pos'][:, :20]})
    clips = ['--clips', str(folder / 'clip.npz')]
    assert train('teacher', *clips, '--out', str(folder / 't')) == 0
    assert train('student', *clips, '--teacher-from', str(folder / 't/last.pt'), '--out', str(folder / 's')) == 0
    return folder


CASES = {
    'joint order': ('teacher --clips order.npz --out x', 'order.npz: joint_names are in another order'),
    'another robot': ('teacher --clips robot.npz --out x', 'robot.npz: joint_names hold 20 names'),
    'preset': ('teacher --clips clip.npz --out x --preset nonesuch', "--preset 'nonesuch' does not exist; expected"),
    'scale': ('teacher --clips clip.npz --out x --scale giant', "--scale 'giant' does not exist; expected one"),
    'memory': ('teacher --clips clip.npz --out x --envs 900000000', 'GB are free; expected at most'),
    'memory of an imitation': (
        'student --teacher mpc --teacher-from t --out x --envs 900000000', 'GB are free; expected at most'),
    'layout': (
        'student --clips clip.npz --teacher-from t/last.pt --out s --resume --mode nep', 'another observation layout'),
    'a training is there': ('teacher --clips clip.npz --out t', 'holds a training already; give --resume'),
    'kind': ('student --clips clip.npz --teacher-from s/last.pt --out x', 'is a student; expected a teacher'),
    'no environment': ('teacher --clips clip.npz --out x --envs 0', '--envs is 0; expected 1 or more'),
    'no thread': ('teacher --clips clip.npz --out x --threads 0', '--threads is 0; expected 1 or more'),
    'out is a file': ('teacher --clips clip.npz --out clip.npz', 'clip.npz: is not a folder; expected one to write'),
    'out in a file': ('teacher --clips clip.npz --out clip.npz/x', 'clip.npz: is not a folder; expected one to write'),
}


@pytest.mark.parametrize('case', CASES)
def test_a_training_that_cannot_be_is_refused(made: Path, monkeypatch, capsys, case: str) -> None:
    monkeypatch.chdir(made)
    options, said = CASES[case]
    before = {path: path.read_bytes() for path in made.rglob('*') if path.is_file()}
    capsys.readouterr()
    # The last of an option given twice counts: that of the case.
    kind, *more = options.split()
    assert main(['train', kind, '--skill', 'football', *SMALL, *more, '--set', *SETTINGS]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith('humanx: ')
    assert not any('Traceback' in line for line in lines)
    assert {path: path.read_bytes() for path in made.rglob('*') if path.is_file()} == before


def test_a_number_that_is_not_finite_stops_ppo_and_is_kept(made: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / 'n'
    options = ['--clips', str(made / 'clip.npz'), '--out', str(out)]
    assert train('teacher', *options, settings=('ppo.critic_learning_rate=1.0e+38', 'ppo.epochs=8')) == 2
    error = capsys.readouterr().err
    assert 'training stopped in iteration 0' in error
    assert str(out / 'nonfinite.pt') in error
    kept = torch.load(out / 'nonfinite.pt', weights_only=True)
    assert kept['qpos'].shape == (8, 43)
    assert kept['iteration'] == 0
    assert 'actor_state_dict' in kept['algorithm']
    assert not (out / 'last.pt').exists()


def test_a_number_that_is_not_finite_stops_imitation_and_is_kept(made: Path, tmp_path: Path, capsys, monkeypatch):
    """A teacher whose label is NaN in one environment."""

    class Broken(train_command.NetworkTeacher):
        def label(self, env: HumanXEnv) -> torch.Tensor:
            out = super().label(env)
            out[3, 5] = float('nan')
            return out

    monkeypatch.setattr(train_command, 'NetworkTeacher', Broken)
    out = tmp_path / 'n'
    options = ['--clips', str(made / 'clip.npz'), '--teacher-from', str(made / 't/last.pt'), '--out', str(out)]
    assert train('student', *options, '--dagger', '2') == 2
    error = capsys.readouterr().err
    assert "while the student imitated: the teacher's action is not finite" in error
    assert torch.load(out / 'nonfinite.pt', weights_only=True)['qpos'].shape == (8, 43)
    assert not (out / 'last.pt').exists()


def test_an_imitation_loss_that_is_not_finite_is_kept(tmp_path: Path) -> None:
    class Huge:
        def label(self, env: HumanXEnv) -> torch.Tensor:
            return torch.full((env.num_envs, 29), 3e38)

    config = cfg.build({'env': {'num_envs': 4}, 'ppo': {'hidden': [16]}})
    env = HumanXEnv(make_clip_set([standing(80, ball=False)]), config.env, mode='nep')
    settings = cfg.DaggerConfig(iterations=2, steps=2, updates=2, batch=8, capacity=100)
    with pytest.raises(UserError, match='the imitation loss is not finite'), kept_failures(tmp_path, env, 'here'):
        distil(env, Huge(), settings, config.ppo, quiet=True)
    assert (tmp_path / 'nonfinite.pt').is_file()


def test_memory_counts_what_files_hold_as_free(tmp_path: Path, monkeypatch) -> None:
    info = tmp_path / 'meminfo'
    info.write_text('MemTotal: 9000000 kB\nMemFree: 10 kB\nMemAvailable: 2000000 kB\n')
    monkeypatch.setattr(memory, '_MEMINFO', info)
    assert memory.available() == 2_048_000_000
    memory.check_memory(2000, 24)
    with pytest.raises(UserError, match=r'--envs 20000 would need about 4\.4 GB, 2\.0 GB are free; .* at most 9225'):
        memory.check_memory(20_000, 24)
    monkeypatch.setattr(memory, '_MEMINFO', tmp_path / 'absent')
    assert memory.available() > 0


def test_a_bad_export_leaves_the_earlier_file(tmp_path: Path, monkeypatch) -> None:
    layout = ObservationLayout(nep_terms())
    config = cfg.build({'ppo': {'hidden': [16]}})
    clips = make_clip_set([standing(80, ball=False)])
    env = HumanXEnv(clips, cfg.EnvConfig(num_envs=2), mode='nep', groups=('policy',))
    model = make_model(env.observe(), 'policy', 29, config.ppo, actor=True)
    path = tmp_path / 'p.onnx'
    export.export_model(model, path, skill='stand', mode='nep', layout=layout, object_roles=())
    before = path.read_bytes()
    for wrong in (1.0, float('nan')):
        monkeypatch.setattr(export, 'parity', lambda *_args, wrong=wrong: wrong)
        with pytest.raises(UserError, match='would differ from the network'):
            export.export_model(model, path, skill='stand', mode='nep', layout=layout, object_roles=())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ['p.onnx']


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ('export t/last.pt --out p.onnx', 'is a teacher; expected a student'),
        ('export absent.pt --out p.onnx', 'absent.pt: is not a file'),
        ('export s/last.pt --out t', 't: is a folder; expected the name of a file'),
        ('export s/last.pt --out clip.npz/p.onnx', 'clip.npz: is not a folder'),
        ('export s/last.pt --out p.onnx --measured clip.npz', 'is not readable JSON'),
        ('eval --skill stand --policy p0.onnx --json t', 't: is a folder; expected the name of a file'),
        ('eval --skill stand --policy p0.onnx --video grid.avi', 'expected a name that ends in .mp4'),
        ('eval --skill stand --policy p0.onnx --clip order.npz', 'joint_names are in another order'),
        ('eval --skill stand --policy clip.npz', 'clip.npz'),
        ('eval --skill nonesuch --policy p0.onnx', "unknown skill 'nonesuch'"),
        ('eval --skill stand --policy p0.onnx --trials 0', '--trials is 0'),
    ],
)
def test_exports_and_evaluations_that_cannot_be_are_refused(made: Path, monkeypatch, capsys, arguments, said) -> None:
    monkeypatch.chdir(made)
    layout = ObservationLayout(nep_terms())
    zero = Mlp([(np.zeros((29, layout.size)), np.zeros(29))])
    write_policy(made / 'p0.onnx', zero, PolicyMetadata('stand', 'nep', layout))
    before = {path: path.read_bytes() for path in made.rglob('*') if path.is_file()}
    capsys.readouterr()
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert {path: path.read_bytes() for path in made.rglob('*') if path.is_file()} == before
