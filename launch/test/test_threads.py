"""Commands that work on small matrices in one process per core keep the BLAS to one thread each."""

import os

import pytest

from humanx import cli


@pytest.mark.parametrize(('given', 'used'), [(None, '1'), ('3', '3')])
def test_xgen_has_one_thread_unless_told_otherwise(monkeypatch, capsys, given, used):
    monkeypatch.setenv('OMP_NUM_THREADS', 'taken back after the test')
    monkeypatch.delenv('OMP_NUM_THREADS')
    monkeypatch.setenv('OPENBLAS_NUM_THREADS', '1')  # set here, so that it is taken back after the test
    if given:
        monkeypatch.setenv('OMP_NUM_THREADS', given)
    assert cli.main(['clip', 'check', '/nowhere/clip.npz']) == 2
    assert os.environ['OMP_NUM_THREADS'] == used


def test_training_keeps_its_threads(monkeypatch, capsys):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    assert cli.main(['train', 'teacher', '--skill', '/nowhere/skill.yaml']) == 2
    assert 'OMP_NUM_THREADS' not in os.environ
