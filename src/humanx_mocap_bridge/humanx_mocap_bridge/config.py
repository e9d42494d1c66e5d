"""The bridge's parameters and what is made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.ros.parameters import Param
from humanx_mocap_bridge.estimator import Body, Estimator
from humanx_mocap_bridge.frames import UNITS, FrameChange, valid_pose
from humanx_mocap_bridge.track import Limits

PARAMS = (
    Param(
        'source', 'rigid_bodies', 'Where frames come from.',
        choices=('rigid_bodies', 'pose_stamped', 'bag'),
    ),
    Param('topic', '/mocap/rigid_bodies', 'Topic of mocap4r2_msgs/RigidBodies, live or in the bag.'),
    Param(
        'pose_topic', '/vrpn_mocap/{name}/pose',
        'Topics of geometry_msgs/PoseStamped, live or in the bag; {name} is the body.',
    ),
    Param('bag', '', 'Path of the rosbag2 to replay (source bag).'),
    Param('bag_rate', 1.0, 'Speed of the replay.', 0.01, 100.0),
    Param('bag_loop', False, 'Begin again at the end of the bag.'),
    Param(
        'bodies', ['pelvis', 'ball'],
        'What is reported, in order: "role", or "role=name" where the source names it otherwise.',
    ),
    Param(
        'offsets', [''],
        'Where a body sits in the tracked frame: "role=x,y,z" or "role=x,y,z,qw,qx,qy,qz" (m).',
    ),
    # Not a bare "y": YAML reads that as true.
    Param('axes', 'z_up', "The source's axes.", choices=('z_up', 'y_up')),
    Param('unit', 'm', "The source's unit of length.", choices=tuple(UNITS)),
    Param(
        'origin', [0.0, 0.0, 0.0, 0.0],
        "Place x, y, z (m) and heading (rad) of the source's origin in the world.",
    ),
    Param('stamp', 'source', 'Use the stamps of the source or the times of arrival (clocks not '
          'synchronised).', choices=('source', 'arrival')),
    Param('max_latency', 0.05, 'Frames older than this are not believed, s.', 0.001, 1.0),
    Param('hold', 0.025, 'A body counts as tracked for so long after its newest pose, s; two '
          "periods of the source.", 0.005, 0.2),
    Param('max_speed', 15.0, 'A faster object is a jump, m/s.', 0.1, 200.0),
    Param('max_pelvis_speed', 5.0, 'A faster pelvis is a jump, m/s.', 0.1, 20.0),
    Param('max_pelvis_turn', 20.0, 'A faster turn of the pelvis is a jump, rad/s.', 1.0, 100.0),
    Param('frozen_after', 2, 'Exact repetitions of a pose that count as lost; 0: never.', 0, 1000),
    Param('reacquire_frames', 10, 'Frames that must agree before a jump is believed.', 1, 1000),
    Param('realtime_priority', 30, 'SCHED_FIFO priority of the node; 0 asks for none.', 0, 90),
)  # fmt: skip


def make_estimator(values: Mapping[str, Any]) -> Estimator:
    """Return the estimator that the parameters describe. Raises :class:`UserError`."""
    offsets = _offsets(values['offsets'])
    bodies = []
    for role, name in parse_bodies(values['bodies']).items():
        is_pelvis = role == robot.ROOT_BODY
        limits = Limits(
            max_speed=values['max_pelvis_speed'] if is_pelvis else values['max_speed'],
            # An object's orientation is not used, and a ball's flips with every marker that hides.
            max_turn=values['max_pelvis_turn'] if is_pelvis else float('inf'),
            frozen_after=values['frozen_after'],
            reacquire_frames=values['reacquire_frames'],
        )
        bodies.append(Body(role, name, limits, offsets.pop(role, None)))
    if offsets:
        raise UserError(f"mocap_bridge: parameter 'offsets' names {sorted(offsets)[0]!r}; expected a role of 'bodies'.")
    origin = values['origin']
    if len(origin) != 4 or not np.isfinite(origin).all():
        raise UserError(
            f"mocap_bridge: parameter 'origin' is {list(origin)}; expected 4 finite numbers "
            '(x, y, z in m, heading in rad).'
        )
    change = FrameChange(values['axes'][0], values['unit'], tuple(origin))
    return Estimator(bodies, change, max_latency=values['max_latency'], hold=values['hold'])


def parse_bodies(entries: Sequence[str]) -> dict[str, str]:
    """Return the source's name by role."""
    names: dict[str, str] = {}
    for entry in entries:
        role, equals, name = entry.partition('=')
        name = name if equals else role
        if not role or not name or role in names or name in names.values():
            raise UserError(
                f'mocap_bridge: parameter \'bodies\' holds {entry!r}; expected "role" or '
                '"role=name", each role and name once.'
            )
        names[role] = name
    if robot.ROOT_BODY not in names:
        raise UserError(
            f"mocap_bridge: parameter 'bodies' lacks {robot.ROOT_BODY!r}; objects are of no use "
            'to a policy without the robot.'
        )
    return names


def _offsets(entries: Sequence[str]) -> dict[str, np.ndarray]:
    offsets = {}
    for entry in entries:
        if not entry:
            continue
        role, _, numbers = entry.partition('=')
        try:
            values = [float(number) for number in numbers.split(',')]
        except ValueError:
            values = []
        pose = None
        if len(values) in (3, 7):
            quaternion = values[3:] or [1.0, 0.0, 0.0, 0.0]
            # An offset of exactly zero is fine here, where a measured position of zero is not.
            tested = valid_pose(np.array([1.0, 1.0, 1.0, *quaternion]))
            if tested is not None and np.isfinite(values).all():
                pose = np.concatenate([values[:3], tested[3:]])
        if pose is None:
            raise UserError(
                f'mocap_bridge: parameter \'offsets\' holds {entry!r}; expected "role=x,y,z" or '
                '"role=x,y,z,qw,qx,qy,qz" with a unit quaternion.'
            )
        offsets[role] = pose
    return offsets
