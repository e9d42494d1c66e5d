"""The millisecond of the simulated G1: absolute deadlines, one thread, no ROS, no allocation worth speaking of."""

import time
from collections.abc import Callable

from humanx_description import robot
from humanx_g1_driver.realtime import sleep_until
from humanx_g1_driver.sim.channel import Channel
from humanx_g1_driver.sim.protocol import Health, Reply, Request, Snapshot
from humanx_g1_driver.sim.robot_end import RobotEnd
from humanx_g1_driver.sim.world import World

_PERIOD_NS = 1_000_000
# A backlog up to this is caught up with; beyond it (a suspended process) simulated time stands still instead.
_MAX_BACKLOG_NS = 20_000_000


class SimLoop:
    """Steps a :class:`World` in real time between the robot's wire and the ROS side."""

    def __init__(self, world: World, link: RobotEnd, channel: Channel, *, snapshot_every: int = 10) -> None:
        self._world = world
        self._link = link
        self._channel = channel
        self._every = snapshot_every
        self._tick = 0
        self._steps_dropped = 0
        self._steps_late = 0  # begun more than half a millisecond after their deadline

    def run(self, stopped: Callable[[], bool]) -> None:
        """Run until ``stopped``; raises :class:`ChannelClosed` when the ROS side is gone."""
        world, link = self._world, self._link
        deadline = time.monotonic_ns()
        while not stopped():
            deadline += _PERIOD_NS
            behind = time.monotonic_ns() - deadline
            if behind < 0:
                sleep_until(deadline)
            elif behind > _MAX_BACKLOG_NS:
                steps = behind // _PERIOD_NS
                self._steps_dropped += steps
                deadline += steps * _PERIOD_NS
            elif behind > _PERIOD_NS // 2:
                self._steps_late += 1
            link.receive()
            world.step()
            self._tick += 1
            link.send(self._tick, world.sensors)
            if self._tick % self._every == 0:
                self._channel.send(self._snapshot())
            elif self._tick % self._every == self._every // 2:
                while (request := self._channel.receive()) is not None:
                    self._channel.send(self._serve(request))

    def _serve(self, request: Request) -> Reply:
        world, value = self._world, 0
        if request.name == 'run':
            world.begin_run()
        elif request.name == 'lower':
            value = int(world.gantry.state)
            world.gantry.lower()
        elif request.name == 'press':
            self._link.press(*request.arguments)
        elif request.name == 'reset':
            world.reset(*request.arguments)
        return Reply(request.number, value)

    def _snapshot(self) -> Snapshot:
        world, episode, link = self._world, self._world.episode, self._link
        return Snapshot(
            stamp_ns=time.time_ns(),
            sim_time=world.steps * 1e-3,
            seed=episode.seed,
            episode=world.episodes,
            gantry=int(world.gantry.state),
            live=episode.live,
            launches=episode.launches,
            since_run=episode.run_steps * 1e-3 if episode.run_steps >= 0 else -1.0,
            since_launch=episode.launch_steps * 1e-3 if episode.launch_steps >= 0 else -1.0,
            origin=episode.origin,
            yaw=episode.yaw,
            partner=episode.start.partner,
            qpos=world.data.qpos,
            qvel=world.data.qvel,
            torque=world.data.actuator_force[: robot.NUM_JOINTS],
            contacts=world.take_contacts(),
            health=Health(
                world.steps, self._steps_dropped, self._steps_late, link.accepted, link.refused, link.damaged,
                link.refusal, int(world.motors.state),
            ),
        )  # fmt: skip
