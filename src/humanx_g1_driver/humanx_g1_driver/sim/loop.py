"""The 1 kHz thread of the simulated G1: absolute deadlines, no ROS, no allocation worth speaking of."""

import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from humanx_description import robot
from humanx_g1_driver.realtime import ask_for_realtime, sleep_until
from humanx_g1_driver.sim.robot_end import RobotEnd
from humanx_g1_driver.sim.world import World

_PERIOD_NS = 1_000_000
# A backlog up to this is caught up with; beyond it (a suspended process) simulated time stands still instead.
_MAX_BACKLOG_NS = 20_000_000


@dataclass(frozen=True)
class Snapshot:
    """The truth at one step, copied out of the loop."""

    stamp_ns: int  # wall clock
    sim_time: float
    steps_dropped: int
    seed: int
    episode: int
    gantry: int
    live: bool
    launches: int
    since_run: float
    since_launch: float
    origin: np.ndarray
    yaw: float
    partner: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    torque: np.ndarray
    contacts: list[tuple[str, str]]


class SimLoop:
    """Steps a :class:`World` in real time between the robot's wire and whoever collects snapshots.

    Requests from other threads (reset, run, release, buttons) are carried out between two steps.
    """

    def __init__(self, world: World, link: RobotEnd, *, snapshot_every: int = 10, priority: int = 0) -> None:
        self._world = world
        self._link = link
        self._every = snapshot_every
        self._priority = priority
        self.realtime_sentence = ''
        self._requests: deque = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='sim_1khz', daemon=True)
        self.snapshots: deque[Snapshot] = deque(maxlen=64)
        self.fresh = threading.Event()
        self.steps_dropped = 0
        self.late_steps = 0  # begun more than half a millisecond after their deadline
        self.error: BaseException | None = None
        self._tick = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def call(self, function, timeout_s: float = 1.0):
        """Run ``function(world, link)`` between two steps and return its result."""
        done = threading.Event()
        box: list = []
        self._requests.append((function, box, done))
        if not done.wait(timeout_s):
            raise TimeoutError('the simulation does not answer')
        if isinstance(box[0], BaseException):
            raise box[0]
        return box[0]

    def _run(self) -> None:
        # Memory stays unlocked: this is a simulation, and MuJoCo and DDS together would pin hundreds of megabytes.
        self.realtime_sentence = ask_for_realtime(self._priority, lock_memory=False).sentence
        try:
            self._loop()
        except BaseException as error:  # the node reports it and ends the process
            self.error = error
            self.fresh.set()

    def _loop(self) -> None:
        world, link = self._world, self._link
        deadline = time.monotonic_ns()
        while not self._stop.is_set():
            deadline += _PERIOD_NS
            now = time.monotonic_ns()
            ahead = deadline - now
            if ahead > 0:
                sleep_until(deadline)
            elif -ahead > _MAX_BACKLOG_NS:
                behind = -ahead // _PERIOD_NS
                self.steps_dropped += behind
                deadline += behind * _PERIOD_NS
            elif -ahead > _PERIOD_NS // 2:
                self.late_steps += 1
            while self._requests:
                self._serve(*self._requests.popleft())
            link.receive()
            world.step()
            self._tick += 1
            link.send(self._tick, world.sensors)
            if self._tick % self._every == 0:
                self.snapshots.append(self._snapshot())
                self.fresh.set()

    def _serve(self, function, box: list, done: threading.Event) -> None:
        try:
            box.append(function(self._world, self._link))
        except Exception as error:  # handed to the caller
            box.append(error)
        done.set()

    def _snapshot(self) -> Snapshot:
        world, episode = self._world, self._world.episode
        return Snapshot(
            stamp_ns=time.time_ns(),
            sim_time=world.steps * 1e-3,
            steps_dropped=self.steps_dropped,
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
            qpos=world.data.qpos.copy(),
            qvel=world.data.qvel.copy(),
            torque=world.data.actuator_force[: robot.NUM_JOINTS].copy(),
            contacts=world.take_contacts(),
        )
