"""The nodes of HumanX, written once: ``humanx up`` and the launch files both start what :func:`nodes` returns."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.skills import load_skill
from humanx_policy.library import find_policy

Mode = Literal['nep', 'mocap']
Value = bool | int | float | str | list[str]

NAMESPACE = '/humanx'
LOOPBACK = 'lo'
# DDS domain of the robot's own low-level topics. The real G1 is on 0; the simulated one stays off it, so that a robot
# on the bench never hears a simulation.
ROBOT_DOMAIN = 0
SIM_DOMAIN = 1


@dataclass(frozen=True)
class NodeSpec:
    """One node: where its code is and what it is told.

    ``package`` and ``executable`` are what ``ros2 run`` takes, ``module`` is what ``python -m`` takes. ``config`` is a
    file of the folder ``config``; ``parameters`` go over it. ``required``: the graph is stopped when it ends.
    ``stop_order``: nodes of a smaller number are stopped first.
    """

    name: str
    package: str
    executable: str
    module: str
    config: str | None = None
    parameters: dict[str, Value] = field(default_factory=dict)
    required: bool = True
    stop_order: int = 1


@dataclass(frozen=True)
class Options:
    """What a person chooses. The fields are the launch files' arguments and the options of ``humanx up``.

    ``go``: with a simulated robot only, do what the operator does (stand, then run) as soon as the graph is up.
    ``bodies``: what motion capture reports, ``role`` or ``role=name``; empty: the pelvis and the skill's objects.
    """

    mode: Mode
    skill: str
    sim: bool = True
    network_interface: str = ''
    record: str = ''
    seed: int = 0
    visualize: bool = True
    go: bool = False
    dds_domain: int | None = None
    bodies: tuple[str, ...] = ()


def config_dir() -> Path:
    """Return the folder of the parameter files: beside the sources, or in the installed package's share folder."""
    beside = Path(__file__).resolve().parents[1] / 'config'
    if beside.is_dir():
        return beside
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory('humanx')) / 'config'


def check(options: Options) -> None:
    """Raise :class:`UserError` with one sentence where the choices make no graph; nothing has been started then."""
    if options.mode not in ('nep', 'mocap'):
        raise UserError(f'mode is {options.mode!r}; expected nep or mocap.')
    find_policy(options.skill)
    if not options.sim and not options.network_interface:
        raise UserError(
            "network_interface is not given; expected the name of the interface to the robot's network (ip address), "
            'which is joined only when it is named.'
        )
    if options.sim and options.network_interface not in ('', LOOPBACK):
        raise UserError(
            f'network_interface is {options.network_interface!r} with sim true; expected none: a simulated robot stays '
            'on this machine.'
        )
    if options.network_interface:
        from humanx_g1_driver.network import check_interface

        check_interface(options.network_interface)
    if options.go and not options.sim:
        raise UserError('go is true with sim false; expected false: a real robot is started by its operator only.')
    if options.dds_domain is not None and not 0 <= options.dds_domain <= 232:
        raise UserError(f'dds_domain is {options.dds_domain}; expected 0 to 232.')
    if options.seed < 0:
        raise UserError(f'seed is {options.seed}; expected 0 or more.')
    if options.record and Path(options.record).is_dir() and any(Path(options.record).iterdir()):
        raise UserError(f'record: {options.record} holds files already; expected a new or empty folder.')
    if options.record and not _may_be_written(Path(options.record)):
        raise UserError(f'record: {options.record} cannot be made; expected a folder in one that may be written to.')


def _may_be_written(folder: Path) -> bool:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def dds_domain(options: Options) -> int:
    """Return the DDS domain of the robot's low-level topics."""
    if options.dds_domain is not None:
        return options.dds_domain
    return SIM_DOMAIN if options.sim else ROBOT_DOMAIN


def skill_name(options: Options) -> str:
    """Return the name of the skill; a policy file says itself which one it was trained for."""
    if not options.skill.endswith('.onnx') and '/' not in options.skill:
        return options.skill
    from humanx_policy.runtime import PolicyRuntime

    return PolicyRuntime(Path(options.skill)).metadata.skill


def skill_bodies(name: str) -> list[str]:
    """Return the bodies that motion capture has to see for a skill: the robot's pelvis and every object that moves."""
    return [robot.ROOT_BODY, *(spec.name for spec in load_skill(name).objects if not spec.fixed)]


def nodes(options: Options) -> list[NodeSpec]:
    """Return the graph's nodes in the order in which they are started."""
    wire: dict[str, Value] = {
        'network_interface': options.network_interface or LOOPBACK,
        'dds_domain': dds_domain(options),
    }
    name = skill_name(options)
    specs = []
    if options.record:
        specs.append(
            NodeSpec(
                'recorder',
                'humanx_g1_driver',
                'recorder',
                'humanx_g1_driver.recorder',
                'recorder.yaml',
                {
                    'directory': options.record,
                    'seed': options.seed,
                    'skill': name,
                    'policy_file': str(find_policy(options.skill)),
                },
                required=False,  # nobody falls because a disk is full; the graph still ends with a status that says so
                stop_order=3,
            )
        )
    if options.sim:
        specs.append(
            NodeSpec(
                'sim_g1',
                'humanx_g1_driver',
                'sim_g1',
                'humanx_g1_driver.sim.node',
                'sim_g1.yaml',
                {**wire, 'skill': name, 'seed': options.seed},
                stop_order=2,
            )
        )
    specs.append(
        # Stopped first: a driver that is told to stop damps the robot, whatever the others still say.
        NodeSpec(
            'g1_driver', 'humanx_g1_driver', 'g1_driver', 'humanx_g1_driver.node', 'g1_driver.yaml', wire, stop_order=0
        )
    )
    if options.mode == 'mocap':
        specs.append(
            NodeSpec(
                'mocap_bridge',
                'humanx_mocap_bridge',
                'mocap_bridge',
                'humanx_mocap_bridge.node',
                'mocap_bridge.yaml',
                {'bodies': list(options.bodies) or skill_bodies(name)},
            )
        )
    specs.append(
        NodeSpec(
            'policy',
            'humanx_policy',
            'policy',
            'humanx_policy.node',
            'policy.yaml',
            # In the mocap graph a policy that does not look at objects runs as well; in the nep graph only such a one.
            {'skill': options.skill, 'mode': 'nep' if options.mode == 'nep' else ''},
        )
    )
    if options.go:
        specs.append(NodeSpec('operator', 'humanx', 'operator', 'humanx.operator', required=False))
    if options.visualize:
        # Nobody falls because a picture is missing.
        specs.append(
            NodeSpec('visualizer', 'humanx', 'visualizer', 'humanx.visualizer', 'visualizer.yaml', required=False)
        )
    return specs
