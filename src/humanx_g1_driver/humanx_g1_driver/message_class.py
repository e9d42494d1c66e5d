"""Message classes by their ROS names."""

import importlib


def message_class(type_name: str) -> type:
    """Return the Python class of a type such as ``std_msgs/msg/String``; raises ImportError or AttributeError."""
    package, kind, name = type_name.split('/')
    return getattr(importlib.import_module(f'{package}.{kind}'), name)
