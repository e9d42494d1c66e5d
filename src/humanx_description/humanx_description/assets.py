"""Paths of the robot's model files, found in installed packages without importing them."""

import importlib.util
import os
import sys
from pathlib import Path

from humanx_description.errors import UserError


def _package_root(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def g1_mjcf() -> Path:
    """Return the path of the G1's MJCF: ``$HUMANX_G1_MJCF``, or the file inside the ``mjlab`` package."""
    override = os.environ.get('HUMANX_G1_MJCF')
    path: Path | None
    if override:
        path = Path(override)
        if not path.is_file():
            raise UserError(f'HUMANX_G1_MJCF names {path}, which is not a file; expected an MJCF of the G1.')
        return path
    root = _package_root('mjlab')
    path = root / 'asset_zoo/robots/unitree_g1/xmls/g1.xml' if root else None
    if path is None or not path.is_file():
        raise UserError(
            'The G1 model is missing: install the package mjlab 1.6.0 (pip install --no-deps mjlab==1.6.0) '
            'or set HUMANX_G1_MJCF to an MJCF of the 29-joint G1.'
        )
    return path


def g1_urdf() -> Path:
    """Return the path of the G1's URDF (for RViz) inside the ``example-robot-data`` package.

    ``$HUMANX_G1_URDF`` overrides it.
    """
    override = os.environ.get('HUMANX_G1_URDF')
    if override:
        path = Path(override)
        if not path.is_file():
            raise UserError(f'HUMANX_G1_URDF names {path}, which is not a file; expected a URDF of the G1.')
        return path
    # The wheel installs into a folder `cmeel.prefix` beside the Python packages; ROS installs into a prefix.
    prefixes = [Path(entry) / 'cmeel.prefix' for entry in sys.path if entry]
    prefixes += [Path(entry) for entry in os.environ.get('AMENT_PREFIX_PATH', '').split(':') if entry]
    for prefix in prefixes:
        path = prefix / 'share/example-robot-data/robots/g1_description/urdf/g1_29dof_rev_1_0.urdf'
        if path.is_file():
            return path
    raise UserError(
        'The G1 URDF is missing: install the package example-robot-data 6.0.0 '
        '(pip install --no-deps example-robot-data==6.0.0) or set HUMANX_G1_URDF to a URDF file.'
    )
