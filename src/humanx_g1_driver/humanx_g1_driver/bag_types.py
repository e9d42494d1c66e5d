"""Message types of bags: ROS 2 Jazzy's own, and the project's from the installed packages' ``.msg`` files."""

from functools import lru_cache
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from humanx_description.errors import UserError

_PACKAGES = ('mocap4r2_msgs', 'humanx_msgs')


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Return the types that a recorder knows; raises :class:`UserError` if a message package is not installed."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for package in _PACKAGES:
        try:
            share = Path(get_package_share_directory(package))
        except PackageNotFoundError:
            raise UserError(f'the message package {package} is not installed; expected a built workspace.') from None
        for path in sorted((share / 'msg').glob('*.msg')):
            types.update(get_types_from_msg(path.read_text(encoding='utf-8'), f'{package}/msg/{path.stem}'))
    store.register(types)
    return store
