import subprocess
import sys

import pytest

from humanx import cli
from humanx_description.errors import UserError
from humanx_policy.library import find_policy


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-m', 'humanx.cli', *arguments], capture_output=True, text=True, timeout=180, **options
    )


@pytest.mark.parametrize(
    ('arguments', 'word'),
    [
        (['nonsense'], 'nonsense'),
        (['up', 'mocap', '--skill', 'juggling'], 'stand'),
        (['up', 'nep', '--skill', 'stand', '--no-sim'], 'network_interface'),
        (['up', 'nep', '--skill', 'stand', '--param', 'policy.bogus=1'], 'bogus'),
        (['up', 'nep', '--skill', 'stand', '--duration', '-1'], '-1'),
        (['up', 'walk', '--skill', 'stand'], 'walk'),
        (['up', 'nep', '--skill', 'stand', '--no-sim', '--network-interface', 'nope0'], "'nope0' does not exist"),
    ],
)
def test_wrong_input_is_a_sentence_and_status_2(capsys, arguments, word):
    try:
        status = cli.main(arguments)
    except SystemExit as stop:  # how argparse refuses
        status = stop.code
    assert status == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count('humanx') <= 2, 'expected one sentence'


def test_a_policy_file_that_is_cut_is_refused_before_anything_starts(capsys, monkeypatch, tmp_path):
    cut = tmp_path / 'cut.onnx'
    cut.write_bytes(find_policy('stand').read_bytes()[:3000])
    monkeypatch.setattr('humanx.launcher.Launcher.run', lambda self: pytest.fail('something was started'))
    assert cli.main(['up', 'nep', '--skill', str(cut)]) == 2
    error = capsys.readouterr().err
    assert f'{cut}: The file is no ONNX model' in error
    assert len(error.splitlines()) == 1


def test_the_status_reaches_the_shell():
    result = run('up', 'mocap', '--skill', 'juggling')
    assert result.returncode == 2
    assert result.stderr.startswith('humanx: ')
    assert 'stand' in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_help_names_the_commands_of_all_parts():
    result = run('--help')
    assert result.returncode == 0
    for command in ('up', 'estop', 'policy'):
        assert f'    {command} ' in result.stdout


def test_no_driver_is_said(ros_env):
    result = run('estop', '--timeout', '0.5', env=ros_env)
    assert result.returncode == 2
    assert 'no driver answers' in result.stderr
    result = run('status', '--timeout', '0.5', env=ros_env)
    assert result.returncode == 2
    assert 'no status from a driver' in result.stderr


@pytest.mark.parametrize('command', sorted(cli.HOME))
def test_the_table_of_commands_is_true(command):
    """Each command is found in the part that the table names."""
    with pytest.raises(SystemExit) as stop:
        cli.build_parser(command).parse_args([command, '--help'])
    assert stop.value.code == 0


def test_a_part_that_is_not_installed_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(cli, 'PARTS', ('humanx.commands', 'humanx_nothing.cli'))
    monkeypatch.setattr(cli, 'HOME', {})
    cli.build_parser(None)
    assert capsys.readouterr().err == ''


def test_a_part_that_cannot_be_imported_is_named(monkeypatch, tmp_path, capsys):
    package = tmp_path / 'humanx_broken'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'cli.py').write_text('import no_such_library')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, 'PARTS', ('humanx.commands', 'humanx_broken.cli'))
    monkeypatch.setattr(cli, 'HOME', {})
    cli.build_parser(None)
    assert 'humanx_broken.cli' in capsys.readouterr().err


def test_a_user_error_is_printed_without_a_traceback(monkeypatch, capsys):
    def refuse(_args):
        raise UserError('clip.npz: fps is -1; expected a positive number.')

    monkeypatch.setattr('humanx.commands.run_up', refuse)
    assert cli.main(['up', 'nep', '--skill', 'stand']) == 2
    assert capsys.readouterr().err == 'humanx: clip.npz: fps is -1; expected a positive number.\n'
