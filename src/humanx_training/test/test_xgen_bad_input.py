"""Everything that may be wrong with an input, through the command: one sentence with file, field and expectation on
standard error, status 2, and what was written earlier stays as it was."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
import yaml

from humanx.cli import main
from humanx_description.skills import skill_path
from humanx_training.xgen.extract.detect import extract
from humanx_training.xgen.human_motion import load_human_motion

sys.path.insert(0, str(Path(__file__).parent))
from test_xgen_bvh import write_bvh
from test_xgen_extract import Evil
from test_xgen_video import write_video


def smpl(path, **changes):
    fields = {'poses': np.zeros((30, 72)), 'trans': np.tile([0, 0, 1.1], (30, 1)), 'mocap_framerate': 30.0}
    np.savez(path, **{k: v for k, v in {**fields, **changes}.items() if v is not None})
    return path


def with_nan(**where):
    arrays = {'poses': np.zeros((30, 72)), 'trans': np.tile([0, 0, 1.1], (30, 1))}
    for name, frame in where.items():
        arrays[name][frame, 0] = np.nan
    return arrays


def noise(path):
    rng = np.random.default_rng(0)
    return write_video(path, [rng.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in range(14)])


def wants_pickle(path):
    np.savez(path, poses=np.array([{'a': 1}], dtype=object), trans=np.zeros((1, 3)))
    return path


def evil_torch(path):
    torch.save({'smpl_params_global': Evil(path.with_name('trap'))}, path)
    return path


def single_array(path):
    with open(path, 'wb') as file:
        np.save(file, np.zeros((30, 72)))
    return path


def cut_off(path):
    return text(path, smpl(path).read_bytes()[:-300])


def damaged(path):
    np.savez_compressed(path, poses=np.random.default_rng(0).normal(size=(30, 72)))
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    return text(path, bytes(content))


def ballplay_in_centimetres(path):
    tensor = torch.zeros(4, 337)
    tensor[:, 165:324] = 100 * torch.randn(159, generator=torch.Generator().manual_seed(0))
    torch.save(tensor, path)
    return path


def text(path, content=b'this is neither a video nor a motion'):
    path.write_bytes(content)
    return path


# Name of the file, how to make it, further arguments, what must be in the sentence.
INPUTS = {
    'not a video': ('a.mp4', text, [], ['cannot be read as a video', 'expected mp4']),
    'an empty video': ('a.mp4', lambda p: text(p, b''), [], ['is empty', 'expected']),
    'an empty motion': ('a.npz', lambda p: text(p, b''), [], ['is empty', 'expected']),
    'no frames': ('a.npz', lambda p: smpl(p, poses=np.zeros((0, 72)), trans=np.zeros((0, 3))), [],
                  ["'poses' holds 0 frames", 'expected at least 2']),
    'nobody in the video': ('a.mp4', noise, [], ['a person is seen in 0 of 14 frames', 'expected one whole person']),
    'NaN in the pose': ('a.npz', lambda p: smpl(p, **with_nan(poses=7)), [],
                        ["'poses' is not finite in frame 7", 'expected']),
    'NaN in the path': ('a.npz', lambda p: smpl(p, **with_nan(trans=3)), [],
                        ["'trans' is not finite in frame 3", 'expected']),
    'a wrong frame rate': ('a.npz', lambda p: smpl(p, mocap_framerate=0.0), [],
                           ["'mocap_framerate' is 0", 'expected 5 to 500']),
    'no frame rate': ('a.npz', lambda p: smpl(p, mocap_framerate=None), [],
                      ["'mocap_framerate' is missing", 'expected']),
    'two frame rates': ('a.npz', smpl, ['--fps', '60'], ["'mocap_framerate' is 30", '60', 'expected one rate']),
    'a npz that wants pickle': ('a.npz', wants_pickle, [], ['pickle', 'expected']),
    'a pt that wants pickle': ('a.pt', evil_torch, [], ['wants pickle', 'expected plain tensors']),
    'centimetres called metres': ('a.bvh', lambda p: write_bvh(p, 100), ['--unit', 'm'],
                                  ['a leg measures', 'expected']),
    'millimetres': ('a.npz', lambda p: smpl(p, trans=np.tile([0, 0, 1100.0], (30, 1))), [],
                    ["'trans' reaches 1100", 'expected metres']),
    'a single array': ('a.npz', single_array, [], ['holds a single array', 'expected']),
    'a file that was cut off': ('a.npz', cut_off, [], ['is not a readable .npz', 'expected']),
    'a damaged file': ('a.npz', damaged, [], ['is not a readable .npz', 'expected']),
    'a frame rate in words': ('a.npz', lambda p: smpl(p, mocap_framerate='fast'), [],
                              ["'mocap_framerate' holds <U4", 'expected numbers']),
    'a frame rate of zero': ('a.npz', smpl, ['--fps', '0'], ['--fps is 0', 'expected 5 to 500']),
    'a pt in centimetres': ('a.pt', ballplay_in_centimetres, [], ['a leg measures', 'expected 0.3 to 2 m']),
    'an unknown ending': ('a.xyz', text, [], ["ending '.xyz'", 'expected']),
}  # fmt: skip


@pytest.mark.parametrize('case', INPUTS)
@pytest.mark.parametrize('action', ['extract', 'retarget', 'propose'])
def test_a_bad_motion(tmp_path, capfd, case, action):
    name, make, more, said = INPUTS[case]
    if action == 'propose' and more:
        pytest.skip('propose has no such option')
    source = make(tmp_path / name)
    out = tmp_path / ('out.png' if action == 'propose' else 'out.npz')
    out.write_bytes(b'an earlier output')
    assert main(['xgen', action, str(source), '--plot' if action == 'propose' else '-o', str(out), *more]) == 2
    error = capfd.readouterr().err.strip().splitlines()
    assert len(error) == 1, error
    for words in (name, *said):
        assert words in error[0]
    assert out.read_bytes() == b'an earlier output'
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({name, out.name})


def test_a_bvh_in_centimetres_is_read_as_such(tmp_path, capsys):
    for name, scale in (('m.bvh', 1.0), ('cm.bvh', 100.0)):
        write_bvh(tmp_path / name, scale)
        assert main(['xgen', 'extract', str(tmp_path / name), '-o', str(tmp_path / f'{name}.npz')]) == 0
    metres, centimetres = (load_human_motion(tmp_path / f'{n}.bvh.npz') for n in ('m', 'cm'))
    assert np.allclose(metres.pos, centimetres.pos, atol=1e-4)


def test_two_people_are_said(person, tmp_path, capsys):
    # What the survey of a video notes travels with the motion (that it notes it: test_xgen_video).
    person.provenance['notes'] = ['two people are in the picture; the larger one is followed']
    person.save(tmp_path / 'two.npz')
    assert main(['xgen', 'extract', str(tmp_path / 'two.npz'), '-o', str(tmp_path / 'out.npz')]) == 0
    assert 'two people are in the picture; the larger one is followed' in capsys.readouterr().out


def test_two_people_are_said_by_the_commands_that_read_a_video_on_the_way(data, tmp_path, capsys):
    motion = extract(data / 'smpl' / 'kick_level1.npz')
    motion.provenance['notes'] = ['two people are in the picture; the larger one is followed']
    motion.save(tmp_path / 'two.npz')
    skill = yaml.safe_load(skill_path('football').read_text())
    skill['xgen']['sources'][0]['file'] = str(tmp_path / 'two.npz')
    (tmp_path / 'football.yaml').write_text(yaml.safe_dump(skill))
    said = 'two.npz: two people are in the picture; the larger one is followed'
    out = tmp_path / 'set'
    command = ['xgen', 'run', str(tmp_path / 'football.yaml'), '--out', str(out), '--clips', '1', '--quiet']
    assert main(command) == 0
    assert said in capsys.readouterr().out
    assert json.loads((out / 'manifest.json').read_text())['notes'] == [said]
    assert main(['xgen', 'propose', str(tmp_path / 'two.npz')]) == 0
    printed = capsys.readouterr().out
    assert f'# {said}' in printed
    assert yaml.safe_load(printed)['contacts']


def open_box(path):
    box = trimesh.creation.box(extents=(0.3, 0.3, 0.3))
    trimesh.Trimesh(box.vertices, box.faces[:-2]).export(path)


def big_box(path):
    trimesh.creation.box(extents=(300, 340, 300)).export(path)


def mesh(make):
    def edit(skill, folder):
        make(folder / 'box.ply')
        skill['objects'][0] = {'name': 'ball', 'shape': 'mesh', 'size': [1.0], 'mesh': str(folder / 'box.ply')}

    return edit


def of_contact(**fields):
    return lambda skill, folder: skill['xgen']['contacts'][0].update(fields)


def of_source(make):
    def edit(skill, folder):
        skill['xgen']['sources'][0]['file'] = str(make(folder / 'a.npz'))

    return edit


SKILLS = {
    'a contact outside the clip': (of_contact(start=90.0, end=91.0), ['xgen: contacts[0]', 'expected it inside']),
    'a contact that ends before it begins': (of_contact(start=2.0, end=1.0),
                                             ['xgen: contacts', 'end is 1.0', 'expected']),
    'a source that is no motion': (of_source(single_array), ['holds a single array', 'expected']),
    'a source that was cut off': (of_source(cut_off), ['is not a readable .npz', 'expected']),
    'a source with NaN': (of_source(lambda p: smpl(p, **with_nan(poses=7))), ["'poses' is not finite in frame 7"]),
    'a clip of no frames': (lambda skill, folder: skill['xgen'].update(fps=0), ['xgen', 'fps is 0', 'expected 20']),
    'an absent anchor': (of_contact(anchor='tail'), ["anchor is 'tail'", 'expected palms']),
    'an absent body': (of_contact(bodies=['tail']), ["body 'tail' does not exist", 'expected a body']),
    'a mesh with holes': (mesh(open_box), ['box.ply', 'has holes', 'expected a closed']),
    'a mesh in millimetres': (mesh(big_box), ['box.ply', 'measures 340 m', 'expected 0.01 to 5 m']),
}  # fmt: skip


@pytest.mark.parametrize('case', SKILLS)
def test_a_bad_skill_file(data, tmp_path, capfd, case):
    edit, said = SKILLS[case]
    skill = yaml.safe_load(skill_path('football').read_text())
    edit(skill, tmp_path)
    path = tmp_path / 'football.yaml'
    path.write_text(yaml.safe_dump(skill))
    out = tmp_path / 'set'
    out.mkdir()
    (out / 'manifest.json').write_text('{}')
    (out / 'clip_000.npz').write_bytes(b'an earlier clip')
    assert main(['xgen', 'run', str(path), '--out', str(out), '--clips', '1', '--overwrite', '--quiet']) == 2
    error = capfd.readouterr().err.strip().splitlines()
    assert len(error) == 1, error
    for words in ('a.npz' if case.startswith('a source') else 'football.yaml', *said):
        assert words in error[0]
    assert (out / 'clip_000.npz').read_bytes() == b'an earlier clip'
    assert not [p for p in tmp_path.iterdir() if 'partial' in p.name]


@pytest.mark.parametrize(('option', 'value'), [('--clips', '0'), ('--workers', '-1'), ('--seed', '-1')])
def test_bad_numbers_of_a_run(tmp_path, capfd, option, value):
    assert main(['xgen', 'run', 'football', '--out', str(tmp_path / 'set'), option, value]) == 2
    assert f'{option} is {value}; expected' in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bad_clip(tmp_path, capfd):
    np.savez(tmp_path / 'a.npz', fps=np.array(0.0))
    for action in (['check'], ['render', '-o', str(tmp_path / 'a.mp4')], ['convert', str(tmp_path / 'b.npz')]):
        command = ['clip', action[0], str(tmp_path / 'a.npz'), *action[1:]]
        assert main(command) == 2
        error = capfd.readouterr().err.strip().splitlines()
        assert len(error) == 1, error
        assert 'a.npz' in error[0]
        assert 'expected' in error[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.npz']
