"""What the README names exists."""

import re
from pathlib import Path

import pytest

from humanx import cli, graph

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / 'README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('target', sorted(set(re.findall(r'\]\(([^)#]+)\)', README))))
def test_links_lead_somewhere(target):
    assert target.startswith('https://') or (ROOT / target).exists()


@pytest.mark.parametrize('command', sorted(cli.HOME))
def test_every_command_is_named(command):
    assert re.search(rf'`[^`]*\b{command}\b[^`]*`', README)


def test_every_node_is_named():
    for spec in graph.nodes(graph.Options('mocap', 'stand', record='/tmp/never-made')):
        assert f'| `{spec.name}` | `{spec.package}` |' in README


@pytest.mark.parametrize('target', sorted(set(re.findall(r'`make ([a-z]+)`', README))))
def test_make_targets_exist(target):
    assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(), flags=re.MULTILINE)
