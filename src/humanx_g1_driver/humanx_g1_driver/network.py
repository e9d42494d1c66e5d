"""Which network interface the robot's wire goes over, checked before anything is opened."""

import fcntl
import socket
import struct
from dataclasses import dataclass

from humanx_description.errors import UserError

LOOPBACK = 'lo'

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40


@dataclass(frozen=True)
class NetworkInterface:
    """A network interface that exists, is up and has an IPv4 address."""

    name: str
    address: str
    is_loopback: bool


def check_interface(name: str) -> NetworkInterface:
    """Return the interface, or raise :class:`UserError` with a sentence that says what is wrong with it."""
    known = [known_name for _, known_name in socket.if_nameindex()]
    if name not in known:
        raise UserError(
            f'network_interface {name!r} does not exist on this computer; expected one of {", ".join(known)}.'
        )
    request = struct.pack('256s', name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        flags = struct.unpack_from('H', fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)[0]
        if not flags & _IFF_UP:
            raise UserError(f'network_interface {name!r} is down; expected an interface that is up.')
        if not flags & (_IFF_RUNNING | _IFF_LOOPBACK):
            raise UserError(f'network_interface {name!r} has no carrier; is the cable to the robot plugged in?')
        try:
            address = socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])
        except OSError:
            raise UserError(
                f"network_interface {name!r} has no IPv4 address; expected one in the robot's network, "
                'for example 192.168.123.222/24.'
            ) from None
    return NetworkInterface(name, address, bool(flags & _IFF_LOOPBACK))
