"""Write launch/config/*.yaml from what the nodes declare: every parameter with its description and default.

To be run after a node's parameters changed; a test holds the files and the declarations equal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from humanx import visualizer
from humanx_description.ros.parameters import Param
from humanx_g1_driver import parameters as driver
from humanx_g1_driver import recorder
from humanx_g1_driver.sim import parameters as sim
from humanx_mocap_bridge import config as bridge
from humanx_policy import node as policy

CONFIG = Path(__file__).resolve().parents[1] / 'launch/config'
# File: (what it is for, the declared parameters, those that the node list gives).
FILES: dict[str, tuple[str, Sequence[Param], set[str]]] = {
    'g1_driver': (
        'the driver. `network_interface` and `dds_domain` come from the launch arguments.',
        driver.PARAMS,
        {'network_interface', 'dds_domain'},
    ),
    'sim_g1': (
        "the simulated G1. Skill, seed and the robot's wire come from the launch arguments.",
        sim.PARAMS,
        {'network_interface', 'dds_domain', 'skill', 'seed'},
    ),
    'mocap_bridge': (
        'the mocap bridge. `bodies` comes from the skill, or from the launch argument.',
        bridge.PARAMS,
        {'bodies'},
    ),
    'policy': (
        'the policy node. `skill` and `mode` come from the launch arguments.',
        policy.PARAMS,
        {'skill', 'mode'},
    ),
    'recorder': (
        "the recorder. Folder, skill, seed and policy file come from the launch arguments.",
        recorder.PARAMS,
        {'directory', 'skill', 'seed', 'policy_file'},
    ),
    'visualizer': ('the visualizer, which publishes what RViz and rqt show.', visualizer.PARAMS, set()),
}


def text(purpose: str, params: Sequence[Param], given: set[str]) -> str:
    """Return the file's text: parameters of the top level first, then the groups."""
    lines = [f'# Parameters of {purpose}', '/**:', '  ros__parameters:']
    group = ''
    for param in sorted((p for p in params if p.name not in given), key=lambda p: '.' in p.name):
        prefix, _, name = param.name.rpartition('.')
        if prefix != group:
            group = prefix
            lines.append(f'    {group}:')
        indent = '      ' if prefix else '    '
        lines += [f'{indent}# {line}' for line in textwrap.wrap(param.description, 100)]
        value = f'{name}: {_yaml(param.default)}'
        lines += [indent + line for line in textwrap.wrap(value, 100, subsequent_indent='  ')]
    return '\n'.join(lines) + '\n'


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, float):
        return repr(round(value, 6) + 0.0)  # without a minus on zero
    if isinstance(value, str):
        return value if value.replace('_', '').isalnum() else f"'{value}'"
    if isinstance(value, list | tuple):
        return '[' + ', '.join(map(_yaml, value)) + ']'
    return repr(value)


if __name__ == '__main__':
    for name, contents in FILES.items():
        (CONFIG / f'{name}.yaml').write_text(text(*contents), encoding='utf-8')
