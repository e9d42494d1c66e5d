"""The process of the control loop: started by the driver node, speaks to it through an inherited socket.

``python -m humanx_g1_driver.control_process FD CONFIG``, CONFIG being JSON of :class:`ControlConfig`.
"""

import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, field

import numpy as np

from humanx_description import interrupts
from humanx_description.errors import UserError
from humanx_g1_driver import link as wire_link
from humanx_g1_driver.limits import SafetyLimits
from humanx_g1_driver.link import Kind, Link, LinkClosed
from humanx_g1_driver.loop import ControlLoop
from humanx_g1_driver.process_state import ProcessState
from humanx_g1_driver.realtime import ask_for_realtime, bind_thread, freeze_garbage
from humanx_g1_driver.safety import SafetyMachine
from humanx_g1_driver.sdk import message_types
from humanx_g1_driver.stand import StandController


@dataclass(frozen=True)
class ControlConfig:
    """What the loop is told at its start."""

    network_interface: str = 'lo'
    dds_domain: int = 0
    realtime_priority: int = 70
    cpu: int = -1
    state_rate: int = 200  # Hz, to the ROS side
    discovery_s: float = 0.8
    orphan_s: float = 3.0
    release_motion_service: bool = True
    tolerate_silent_writers: bool = False
    stand_pose: list[float] | None = None
    limits: SafetyLimits = field(default_factory=SafetyLimits)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> 'ControlConfig':
        data = json.loads(text)
        data['limits'] = SafetyLimits(**data['limits'])
        return ControlConfig(**data)


class WriterNames:
    """Names foreign writers in a thread of its own: asking discovery is too slow for the control loop."""

    def __init__(self, transport) -> None:
        self._transport = transport
        self._names: dict[int, str | None] = {}
        self._asked: set[int] = set()

    def __call__(self, handle: int) -> str | None:
        """Return the name, something provisional until it is known, or None for a process that is gone."""
        if handle not in self._asked:
            self._asked.add(handle)
            threading.Thread(target=self._ask, args=(handle,), daemon=True).start()
        return self._names.get(handle, 'another process')

    def _ask(self, handle: int) -> None:
        identity = self._transport.identify(handle)
        self._names[handle] = None if identity.is_dead() else str(identity)


def open_wire(config: ControlConfig):
    """Join the wire as its only writer of commands, or raise :class:`UserError`."""
    from humanx_g1_driver.motion_service import release_motion_service
    from humanx_g1_driver.network import check_interface
    from humanx_g1_driver.transport import DdsCommandTransport

    transport = DdsCommandTransport(config.dds_domain, config.network_interface)
    on_robot = not check_interface(config.network_interface).is_loopback
    if on_robot and config.release_motion_service:
        release_motion_service(config.dds_domain, config.network_interface)
    others = transport.find_foreign_writers(config.discovery_s)
    if others and config.tolerate_silent_writers:
        transport.foreign_command_heard()
        time.sleep(0.2)
        others = others if transport.foreign_command_heard() else []
    if others:
        names = ' and '.join(str(writer) for writer in others)
        raise UserError(
            f'rt/lowcmd on {config.network_interface!r} (DDS domain {config.dds_domain}) already has a writer: '
            f'{names}; stop it first (a driver that was killed goes on damping for a few seconds).'
        )
    transport.open_writer()
    return transport


def main(arguments: list[str] | None = None) -> int:
    """Run the loop until the node says so, or a while after it died."""
    descriptor, text = arguments if arguments is not None else sys.argv[1:]
    # Ctrl-C goes to the whole group; the node decides when to stop. A SIGTERM straight to this process is the same as
    # losing the node: it must not leave the robot without damping at once.
    interrupts.ignore()
    link = Link(socket.socket(fileno=int(descriptor)))
    config = ControlConfig.from_json(text)
    # Everything slow comes first: a process that loads its libraries under SCHED_FIFO holds up the robot's other loops.
    from humanx_g1_driver import motion_service, transport  # noqa: F401

    try:
        message_types()
    except UserError as error:
        return _refuse(link, error)
    # Before joining: the DDS library's threads inherit the scheduling.
    realtime = ask_for_realtime(config.realtime_priority)
    notice = wire_link.packet(Kind.READY)
    notice['realtime'] = realtime.realtime
    notice['text'] = wire_link.text(realtime.sentence)
    try:
        wire = open_wire(config)
    except UserError as error:
        return _refuse(link, error)
    pose = None if config.stand_pose is None else np.array(config.stand_pose)
    machine = SafetyMachine(config.limits, StandController(pose))
    loop = ControlLoop(
        machine,
        wire,
        link,
        state_every=max(1, round(1000 / config.state_rate)),
        orphan_seconds=config.orphan_s,
        tolerate_silent_writers=config.tolerate_silent_writers,
        describe_writer=WriterNames(wire),
        ros_side=ProcessState(os.getppid()),
    )
    try:
        link.send(notice)
    except LinkClosed:
        return 1
    freeze_garbage()
    bind_thread(config.cpu)
    started, cpu_started = time.monotonic(), time.process_time()
    loop.run()
    loop.say_done(started, cpu_started)
    wire.close()
    return 0


def _refuse(link: Link, error: UserError) -> int:
    notice = wire_link.packet(Kind.REFUSED)
    notice['text'] = wire_link.text(str(error))
    link.send(notice)
    return 2


if __name__ == '__main__':
    sys.exit(main())
