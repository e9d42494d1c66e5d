"""What the two processes of ``sim_g1`` say to each other."""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from humanx_description.skills import Skill
from humanx_g1_driver.sim.mocap import MocapConfig
from humanx_g1_driver.sim.options import WorldConfig


class GantryState(IntEnum):
    """What the gantry does; the numbers are those of ``humanx_msgs/SimTruth``."""

    HELD = 0
    LOWERING = 1
    FREE = 2


class MotorState(IntEnum):
    """What the motors obey."""

    IDLE = 0  # no command was ever accepted: no torque
    COMMANDED = 1
    DAMPING = 2  # commands stopped coming: the motor boards damp by themselves


@dataclass(frozen=True)
class SimParameters:
    """Everything ``sim_g1`` is told. The ROS side reads it and hands it to the physics."""

    skill: Skill
    seed: int
    generalise: bool
    network_interface: str
    dds_domain: int
    auto_release: bool
    mode_machine: int
    realtime_priority: int
    cpu: int
    world: WorldConfig
    mocap: MocapConfig


@dataclass(frozen=True)
class Ready:
    """The physics is built and the wire is open, or ``refusal`` says why not."""

    refusal: str = ''
    realtime: str = ''


@dataclass(frozen=True)
class Request:
    """Something to be done between two steps: ``run``, ``lower``, ``press`` (keys), ``reset`` (seed, generalise)."""

    number: int
    name: str
    arguments: tuple = ()


@dataclass(frozen=True)
class Reply:
    """The answer to a request: for ``lower`` the gantry's state before it."""

    number: int
    value: int = 0


@dataclass(frozen=True)
class Health:
    """How the physics keeps up and what it thinks of the commands; counts since the start."""

    steps: int = 0
    steps_dropped: int = 0
    steps_late: int = 0
    accepted: int = 0
    refused: int = 0
    damaged: int = 0
    refusal: str = ''
    motors: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The truth at one step."""

    stamp_ns: int  # wall clock
    sim_time: float
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
    health: Health = field(default_factory=Health)
