"""The launch description of both bringup files, made from the node list of :mod:`humanx.graph`."""

from __future__ import annotations

from pathlib import Path

# The type checker finds this repository's folder of the same name instead of the package.
from launch import LaunchContext, LaunchDescription  # type: ignore[attr-defined]
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from humanx import graph
from humanx_description import discovery
from humanx_description.errors import UserError

_BOOL = ('true', 'false')


def bringup(mode: graph.Mode) -> LaunchDescription:
    """Return the launch description of the nep or mocap graph."""
    return LaunchDescription(
        [
            DeclareLaunchArgument('skill', default_value='stand', description='Name or file of a trained skill.'),
            DeclareLaunchArgument('sim', default_value='true', choices=_BOOL, description='Simulated G1 or real one.'),
            DeclareLaunchArgument(
                'network_interface', default_value='', description="Interface to the real robot's network."
            ),
            DeclareLaunchArgument('rviz', default_value='false', choices=_BOOL, description='Open RViz.'),
            DeclareLaunchArgument('record', default_value='', description='New folder for a rosbag2 of everything.'),
            DeclareLaunchArgument('seed', default_value='0', description="Seed of the simulated robot's scenario."),
            DeclareLaunchArgument(
                'go', default_value='false', choices=_BOOL, description='Simulated G1 only: stand and run at once.'
            ),
            DeclareLaunchArgument(
                'dds_domain', default_value='', description="DDS domain of the robot's topics (robot: 0, simulated: 1)."
            ),
            DeclareLaunchArgument(
                'bodies', default_value='', description='What motion capture calls the bodies: role=name,role=name.'
            ),
            # Nothing is heard beyond this machine unless somebody asks for it.
            SetEnvironmentVariable(
                discovery.RANGE, EnvironmentVariable(discovery.RANGE, default_value=discovery.THIS_MACHINE)
            ),
            OpaqueFunction(function=_actions, args=[mode]),
        ]
    )


def _actions(context: LaunchContext, mode: graph.Mode) -> list[Action]:
    def argument(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    options = graph.Options(
        mode=mode,
        skill=argument('skill'),
        sim=argument('sim') == 'true',
        network_interface=argument('network_interface'),
        record=str(Path(argument('record')).resolve()) if argument('record') else '',
        seed=_integer('seed', argument('seed')) or 0,
        go=argument('go') == 'true',
        dds_domain=_integer('dds_domain', argument('dds_domain')),
        bodies=tuple(filter(None, argument('bodies').split(','))),
    )
    graph.check(options)
    actions: list[Action] = [_node(spec) for spec in graph.nodes(options)]
    if argument('rviz') == 'true':
        view = graph.config_dir().parent / 'rviz' / 'view.rviz'
        actions.append(Node(package='rviz2', executable='rviz2', name='rviz2', arguments=['-d', str(view)]))
    return actions


def _integer(name: str, text: str) -> int | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise UserError(f'{name} is {text!r}; expected an integer.') from None


def _node(spec: graph.NodeSpec) -> Node:
    parameters: list = [str(graph.config_dir() / spec.config)] if spec.config is not None else []
    if spec.parameters:
        parameters.append(spec.parameters)
    return Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        namespace=graph.NAMESPACE,
        parameters=parameters,
        output='screen',
        emulate_tty=True,
        on_exit=Shutdown(reason=f'{spec.name} is required and has ended') if spec.required else None,
    )
