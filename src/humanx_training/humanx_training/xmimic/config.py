"""Typed settings of XMimic. Defaults are the paper's public figures unless a comment says otherwise.

A skill's ``xmimic`` section and ``--set key=value`` change them through the project's strict reader.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from humanx_description.config import from_mapping
from humanx_description.errors import UserError


@dataclass(frozen=True)
class Term:
    """A reward ``weight * exp(-error / scale)``; weight 0 leaves it out."""

    weight: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f'scale is {self.scale}; expected a positive number.')


@dataclass(frozen=True)
class RewardConfig:
    """r = r_body + r_obj + r_rel + r_contact + r_reg (section VIII); errors are mean squares.

    ``combine`` 'sum' adds the terms, 'product' multiplies the four groups as SkillMimic does, each
    ``exp(-sum(weight * error))``. Penalties are weights of what :mod:`.rewards` returns.
    """

    combine: Literal['sum', 'product'] = 'sum'
    # r_body
    upper_body_pos: Term = Term(1.0, 0.03)
    lower_body_pos: Term = Term(1.0, 0.1)
    hands_pos: Term = Term(1.6, 0.03)
    feet_pos: Term = Term(2.1, 0.03)
    body_rot: Term = Term(0.5, 1.0)
    body_ang_vel: Term = Term(0.5, 1.0)
    body_lin_vel: Term = Term(1.0, 1.0)
    joint_pos: Term = Term(0.75, 1.0)
    joint_vel: Term = Term(0.5, 1.0)
    # r_obj
    object_pos: Term = Term(2.0, 0.05)
    object_rot: Term = Term(0.0, 1.0)
    object_vel: Term = Term(0.0, 1.0)
    # r_rel
    relative_pos: Term = Term(2.0, 0.05)
    hands_relative_pos: Term = Term(2.0, 0.05)
    relative_rot: Term = Term(0.0, 1.0)
    # r_contact, eq. 12
    contact: Term = Term(2.1, 0.05)
    # r_reg
    torque: float = -1e-5
    action_rate: float = -0.5
    joint_pos_limit: float = -10.0
    joint_vel_limit: float = -5.0
    torque_limit: float = -5.0
    termination: float = -200.0
    feet_orientation: float = -2.0
    feet_slip: float = -2.0
    feet_heading: float = -0.02
    waist: float = -50.0
    hip_yaw: float = -20.0
    penalty_start: float = 0.1  # penalties grow from this factor to 1 over `penalty_iterations`
    penalty_iterations: int = 2000


@dataclass(frozen=True)
class InitConfig:
    """Disturbed initialisation from random phases; uniform half widths (rad, rad/s, m, m/s)."""

    random_phase: bool = True
    disturb: bool = True
    joint_pos: float = 0.1
    joint_vel: float = 0.01
    root_pos: float = 0.02
    root_rot: float = 0.1745
    root_lin_vel: float = 0.05
    root_ang_vel: float = 0.02
    object_pos: float = 0.1
    adaptive: float = 1.0  # weight of failing segments in the choice of the phase; 0: uniform
    start_fraction: float = 0.1  # of the episodes begin at the clip's first frame


@dataclass(frozen=True)
class TerminationConfig:
    """When an episode ends early. Probabilities are per control step."""

    motion: float = 0.5  # m, the furthest key body from the reference; the release: 1.5, curriculum 0.5 to 2
    orientation: float = 1.2  # rad, of the pelvis
    interaction: bool = True
    interaction_distance: float = 0.2  # m, contacting body to object, against the reference's
    interaction_p: float = 0.02
    object_distance: float = 0.5  # m
    object_p: float = 0.01


@dataclass(frozen=True)
class RandomisationConfig:
    """Domain randomisation; relative widths unless a unit is given. ``enabled`` False leaves the model as it is."""

    enabled: bool = True
    com: float = 0.025  # m, every link
    torso_com: float = 0.05  # m
    link_mass: float = 0.1
    kp: float = 0.1
    kd: float = 0.1
    friction: tuple[float, float] = (0.5, 1.25)
    object_mass: float = 0.2
    object_size: float = 0.05
    object_friction: float = 0.3
    restitution: float = 0.1  # absolute
    rolling: float = 0.5
    max_delay: int = 2  # substeps of 5 ms
    push_speed: float = 0.5  # m/s
    push_interval: tuple[float, float] = (1.0, 5.0)  # s
    force: float = 20.0  # N, sustained, on the torso
    standing_force: float = 50.0  # N, while the reference stands still
    force_interval: tuple[float, float] = (1.0, 2.0)  # s
    torque_noise: float = 0.1  # of the effort limit
    noise: float = 1.0  # scale of the observation noise


@dataclass(frozen=True)
class NoiseConfig:
    """Half widths of uniform observation noise."""

    base_ang_vel: float = 0.3
    projected_gravity: float = 0.2
    joint_pos: float = 0.01
    joint_vel: float = 1.0
    object_pos: float = 0.01


@dataclass(frozen=True)
class FrameLossConfig:
    """Simulated loss of the object in MoCap mode."""

    enabled: bool = True
    p_far: float = 0.02
    far_frames: int = 2
    p_near: float = 0.2
    near_frames: int = 10
    near: tuple[float, float] = (0.05, 0.1)


@dataclass(frozen=True)
class EnvConfig:
    """The environment: 100 Hz policy over 200 Hz physics."""

    num_envs: int = 512
    substeps: int = 2
    residual: bool = True  # teacher's actions are added to the reference's joints (privileged)
    action_limit: float = 6.0  # |a| beyond this is cut
    future: tuple[int, ...] = (1, 4, 12)  # reference frames the privileged observation looks ahead
    self_collision: bool = True
    reward: RewardConfig = RewardConfig()
    init: InitConfig = InitConfig()
    termination: TerminationConfig = TerminationConfig()
    randomisation: RandomisationConfig = RandomisationConfig()
    noise: NoiseConfig = NoiseConfig()
    frame_loss: FrameLossConfig = FrameLossConfig()

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.substeps < 1:
            raise ValueError(f'num_envs is {self.num_envs} and substeps {self.substeps}; expected 1 or more.')


@dataclass(frozen=True)
class AmpConfig:
    """The adversarial motion prior: reward ``style * scale * max(0, 1 - (D - 1)^2 / 4) + task * r``."""

    enabled: bool = False
    style: float = 0.3
    scale: float = 0.3
    task: float = 0.7
    history: int = 25
    hidden: tuple[int, ...] = (1024, 512, 256)
    gradient_penalty: float = 10.0
    learning_rate: float = 1e-4


@dataclass(frozen=True)
class PpoConfig:
    """PPO. The network, epochs and noise are the laptop's; ``paper_scale()`` gives the paper's."""

    hidden: tuple[int, ...] = (256, 128)  # the paper: 512, 256, 256
    activation: str = 'elu'
    init_std: float = 0.3  # the paper: 0.8
    fixed_std: bool = False
    steps: int = 24
    epochs: int = 3  # the paper: 5
    mini_batches: int = 4
    gamma: float = 0.99
    lam: float = 0.95
    clip: float = 0.2
    entropy: float = 0.002  # the paper: 0.01
    learning_rate: float = 1e-3
    critic_learning_rate: float = 1e-3  # of its own: the KL rule would starve it
    min_learning_rate: float = 1e-5
    max_learning_rate: float = 3e-3
    desired_kl: float = 0.01
    max_grad_norm: float = 1.0
    value_coef: float = 1.0
    bc_coef: float = 1.0  # eq. 4, students only
    bc_final: float | None = None  # what it falls to over the training, by a constant factor; None: it does not
    critic_warmup: int = 0  # iterations in which only the critic learns

    def __post_init__(self) -> None:
        for name in ('steps', 'epochs', 'mini_batches'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}; expected 1 or more.')
        if self.bc_coef > 0 and self.bc_final is not None and not 0.0 < self.bc_final <= self.bc_coef:
            raise ValueError(f'bc_final is {self.bc_final}; expected more than 0 and at most bc_coef.')

    def cloning(self, spent: float) -> float:
        """Return the weight of behaviour cloning when the share ``spent`` (0 to 1) of the iterations is gone."""
        if self.bc_final is None or self.bc_coef == 0:
            return self.bc_coef
        return self.bc_coef * (self.bc_final / self.bc_coef) ** spent


@dataclass(frozen=True)
class DaggerConfig:
    """Imitation of a teacher under the student's own states."""

    iterations: int = 100
    steps: int = 24
    updates: int = 40  # gradient steps per iteration
    batch: int = 2048
    capacity: int = 400_000
    learning_rate: float = 1e-3
    mix_iterations: int = 8  # over which the teacher's share of the actions falls to 0
    action_noise: float = 0.1
    final_rate: float = 0.05  # of the learning rate, at the end; it falls exponentially
    weigh_legs: bool = False  # legs 1.6, waist 1.2, arms 0.5 in the loss, and errors beyond 1 count linearly


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run needs besides the clips."""

    env: EnvConfig = field(default_factory=EnvConfig)
    ppo: PpoConfig = PpoConfig()
    amp: AmpConfig = AmpConfig()
    dagger: DaggerConfig = DaggerConfig()
    iterations: int = 1000
    seed: int = 1
    checkpoint_every: int = 50
    evaluate_every: int = 50
    patience: int = 0  # evaluations without a better result before stopping; 0: never
    augmented: bool = True  # False: of the given clips only those made without draws, the skill as it was shown
    student_teacher: bool = True  # False: the student learns from the reward alone (ablation)

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError(f'iterations is {self.iterations}; expected 0 or more.')
        for name in ('checkpoint_every', 'evaluate_every'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}; expected 1 or more.')
        samples = self.env.num_envs * self.ppo.steps
        if self.ppo.mini_batches > samples:
            raise ValueError(f'ppo.mini_batches is {self.ppo.mini_batches}; expected at most the {samples} samples.')

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> TrainConfig:
        """Build from a mapping, strictly; see :mod:`humanx_description.config`."""
        return from_mapping(cls, data, where)


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with nested ``changes`` laid over it; neither is modified."""
    out = dict(base)
    for key, value in changes.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def build(*layers: dict[str, Any], where: str = 'settings') -> TrainConfig:
    """Return the configuration of ``layers`` laid over the defaults, later ones winning."""
    data: dict[str, Any] = {}
    for layer in layers:
        data = merge(data, layer)
    return TrainConfig.from_dict(_complete(TrainConfig(), data), where)


def _complete(config: Any, data: dict[str, Any]) -> dict[str, Any]:
    """Fill nested mappings up with defaults, so that a part of a :class:`Term` may be given."""
    out = dict(data)
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type) and isinstance(out.get(f.name), dict):
            out[f.name] = merge(dataclasses.asdict(value), _complete(value, out[f.name]))
    return out


def parse_overrides(items: list[str]) -> dict[str, Any]:
    """Turn ``['ppo.epochs=5']`` into a nested mapping; values are YAML."""
    import yaml

    out: dict[str, Any] = {}
    for item in items:
        key, sign, text = item.partition('=')
        if not sign or not key:
            raise UserError(f'--set {item!r}: expected key=value, as in ppo.epochs=5.')
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f'--set {item!r}: the value is not YAML.') from None
        for part in reversed(key.split('.')):
            value = {part: value}
        out = merge(out, value)
    return out
