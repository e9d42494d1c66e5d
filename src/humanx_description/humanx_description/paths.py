"""Where things lie: the repository, the skills, the test data."""

import os
from pathlib import Path


def skills_dir() -> Path:
    """Return the folder of the skill files: beside the sources, or in the installed package's share folder."""
    beside = Path(__file__).resolve().parents[1] / 'skills'
    if beside.is_dir():
        return beside
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory('humanx_description')) / 'skills'


def data_dir() -> Path:
    """Return the folder of real motions and videos: ``$HUMANX_DATA``, or ``shared/data`` beside the checkout.

    The folder may be absent; callers say so (tests skip).
    """
    override = os.environ.get('HUMANX_DATA')
    if override:
        return Path(override)
    return Path(__file__).resolve().parents[4] / 'shared' / 'data'
