"""A skill is one file: what is handled, how a trial starts, and what counts as success."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from humanx_description.config import from_mapping, read_yaml
from humanx_description.errors import UserError
from humanx_description.judge import SuccessRule
from humanx_description.objects import ObjectSpec
from humanx_description.paths import skills_dir
from humanx_description.scenario import Scenario

Mode = Literal['nep', 'mocap']


@dataclass(frozen=True)
class Skill:
    """One skill file, validated.

    ``mode`` is how the policy perceives: ``nep`` (no external perception) or ``mocap`` (object poses).
    ``xgen`` and ``xmimic`` are the raw sections that the training packages validate themselves.
    """

    name: str
    description: str
    mode: Mode
    success: SuccessRule
    scenario: Scenario = field(default_factory=Scenario)
    objects: tuple[ObjectSpec, ...] = ()
    xgen: dict = field(default_factory=dict)
    xmimic: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [o.name for o in self.objects]
        if self.scenario.object and self.scenario.object not in names:
            raise ValueError(f'scenario.object is {self.scenario.object!r}; expected one of the objects {names}.')

    @property
    def main_object(self) -> ObjectSpec | None:
        """The object that the scenario sets moving and the judge watches (None: a body-only skill)."""
        return next((o for o in self.objects if o.name == self.scenario.object), None)


def list_skills() -> list[str]:
    """Return the names of all skill files, sorted."""
    return sorted(path.stem for path in skills_dir().glob('*.yaml'))


def skill_path(name_or_path: str | Path) -> Path:
    """Return the file of a skill given by name or by path; raises :class:`UserError` with the known names."""
    path = Path(name_or_path)
    if path.suffix in ('.yaml', '.yml'):
        if not path.is_file():
            raise UserError(f'{path}: no such skill file; expected a YAML file or one of {", ".join(list_skills())}.')
        return path
    path = skills_dir() / f'{name_or_path}.yaml'
    if not path.is_file() or path.parent != skills_dir():
        raise UserError(f'unknown skill {str(name_or_path)!r}; expected one of {", ".join(list_skills())}.')
    return path


def load_skill(name_or_path: str | Path) -> Skill:
    """Read and validate a skill file; raises :class:`UserError` naming the file and the field."""
    path = skill_path(name_or_path)
    skill = from_mapping(Skill, read_yaml(path), str(path))
    if skill.name != path.stem:
        raise UserError(f'{path}: name is {skill.name!r}; expected {path.stem!r}, as the file is called.')
    return skill
