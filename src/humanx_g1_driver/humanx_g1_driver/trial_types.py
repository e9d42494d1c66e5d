"""What a series of trials is asked for, and what comes out of each."""

from dataclasses import dataclass, field
from pathlib import Path

NEVER_RAN = 'the skill never ran'


@dataclass(frozen=True)
class TrialOptions:
    """What ``humanx trial`` is asked for. ``dropout`` and ``burst`` are those of the simulated mocap."""

    mode: str
    skill: str
    trials: int
    seed: int
    directory: Path
    dropout: float = 0.0
    burst: int = 1
    loss: str = 'missing'
    generalise: bool = False
    balls: int = 1
    dds_domain: int | None = None
    parameters: tuple[str, ...] = ()


@dataclass
class TrialResult:
    """One trial. ``returns`` counts successive successes from the first ball on; ``driver`` is its loop's timing."""

    seed: int
    success: bool
    reason: str
    bag: str
    measures: dict[str, float] = field(default_factory=dict)
    returns: int = 0
    launches: int = 0
    real_time_factor: float = 0.0
    policy_sha256: str = ''
    driver: dict[str, float] = field(default_factory=dict)


class TrialError(Exception):
    """The graph failed; no verdict can be given."""
