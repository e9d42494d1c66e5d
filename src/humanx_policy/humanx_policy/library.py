"""Where the trained skills lie."""

import os
from pathlib import Path

from humanx_description.errors import UserError

SUFFIX = '.onnx'


def policies_dir() -> Path:
    """Return the policy files' folder: ``$HUMANX_POLICIES``, beside the sources, or installed."""
    override = os.environ.get('HUMANX_POLICIES')
    if override:
        return Path(override)
    beside = Path(__file__).resolve().parents[1] / 'policies'
    if beside.is_dir():
        return beside
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory('humanx_policy')) / 'policies'


def known_skills() -> list[str]:
    """Return the names of the skills that have a policy file."""
    return sorted(path.stem for path in policies_dir().glob(f'*{SUFFIX}'))


def find_policy(skill: str) -> Path:
    """Return the policy file of a skill, given by name or by the path of a file.

    Raises :class:`UserError` with the known skills where there is none.
    """
    if skill.endswith(SUFFIX) or '/' in skill:
        path = Path(skill)
        if not path.is_file():
            raise UserError(f'{path}: is not a file; expected a policy file ({SUFFIX}).')
        return path
    if skill not in known_skills():
        raise UserError(
            f'No policy for the skill {skill!r}; expected one of {", ".join(known_skills())}, '
            f'or the path of a policy file.'
        )
    return policies_dir() / f'{skill}{SUFFIX}'
