"""ROS for the tests: a domain of its own per test, never beyond this machine."""

import itertools
import os

import pytest

# The tests of this folder use the domains from here on, one after the other.
_DOMAINS = itertools.count(int(os.environ.get('HUMANX_TEST_DOMAIN', '12')))


@pytest.fixture
def ros_env(monkeypatch) -> dict[str, str]:
    """Return an environment for processes of this test, set in this process as well."""
    monkeypatch.setenv('ROS_DOMAIN_ID', str(next(_DOMAINS)))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    return dict(os.environ)
