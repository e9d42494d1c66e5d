"""Taking the motors over from the robot's own motion service, before anything is written to ``rt/lowcmd``.

While that service is active the robot's computer commands the motors itself, and two controllers would fight. The SDK's
wheel has the remote-call client but not this service's own, so its three numbers are here (service ``motion_switcher``,
version 1.0.0.1: 1001 asks for the mode, 1003 releases it).
"""

import json
import time
from typing import Any, Protocol

from humanx_description.errors import UserError
from humanx_g1_driver.sdk import prepare_sdk_import

SERVICE, VERSION = 'motion_switcher', '1.0.0.1'
CHECK_MODE, RELEASE_MODE = 1001, 1003


class ModeClient(Protocol):
    """What is needed of the service."""

    def check_mode(self) -> tuple[int, dict | None]:
        """Return a status (0: answered) and the mode; its ``name`` is empty when nothing is active."""

    def release_mode(self) -> int:
        """Ask for release; return a status."""


def sdk_client(domain_id: int, network_interface: str) -> ModeClient:
    """Return a client over the SDK's remote calls."""
    prepare_sdk_import()
    from unitree_sdk2py.core.channel import ChannelFactoryInitialize
    from unitree_sdk2py.rpc.client import Client

    from humanx_g1_driver import dds

    # The domain exists already (opened by our transport on that interface): the SDK's own attempt to create it again
    # would fail, so it is handed a participant of that domain.
    _adopt_participant(ChannelFactoryInitialize, dds.join(domain_id, network_interface))

    class Switcher(Client):
        def __init__(self) -> None:
            super().__init__(SERVICE, False)
            self.SetTimeout(3.0)
            self._SetApiVerson(VERSION)
            self._RegistApi(CHECK_MODE, 0)
            self._RegistApi(RELEASE_MODE, 0)

        def check_mode(self) -> tuple[int, dict | None]:
            code, data = self._Call(CHECK_MODE, json.dumps({}))
            return code, json.loads(data) if code == 0 and data else None

        def release_mode(self) -> int:
            return self._Call(RELEASE_MODE, json.dumps({}))[0]

    return Switcher()


def _adopt_participant(initialize: Any, participant: Any) -> None:
    from unitree_sdk2py.core.channel import ChannelFactory

    prefix = '_ChannelFactory__'
    if not getattr(ChannelFactory, prefix + 'initialized'):
        setattr(ChannelFactory, prefix + 'participant', participant)
        setattr(ChannelFactory, prefix + 'qos', None)
        setattr(ChannelFactory, prefix + 'initialized', True)


def release_motion_service(
    domain_id: int, network_interface: str, *, client: ModeClient | None = None, attempts: int = 5, pause_s: float = 1.0
) -> None:
    """Return once no motion service is active; raise :class:`UserError` if it does not let go or does not answer."""
    client = client or sdk_client(domain_id, network_interface)
    name = ''
    answered = False
    for attempt in range(attempts):
        code, mode = client.check_mode()
        # The client's answer may be empty even when the call succeeded: that says nothing, so ask again.
        if code == 0 and isinstance(mode, dict):
            answered = True
            name = str(mode.get('name') or '')
            if not name:
                return
            client.release_mode()
        if attempt + 1 < attempts:
            time.sleep(pause_s)
    if answered:
        raise UserError(
            f"The robot's motion service {name!r} does not let go of the motors after {attempts} requests; "
            'put the robot into debug mode with the remote (L2+R2) and try again.'
        )
    raise UserError(
        f"The robot's motion service did not answer on {network_interface!r}; expected the robot's network interface, "
        'or set release_motion_service to false if the robot is in debug mode already.'
    )
