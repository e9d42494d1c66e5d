"""The buttons of the G1's remote by name."""

from humanx_g1_driver.remote import KEYS


def remote_keys(text: str) -> int:
    """Return the remote's bit field for buttons like ``L1+A`` (empty: none); raises ValueError for an unknown one."""
    keys = 0
    for name in filter(None, (part.strip() for part in text.split('+'))):
        if name not in KEYS:
            raise ValueError(f'unknown button {name!r}; expected some of {", ".join(KEYS)} joined by +.')
        keys |= KEYS[name]
    return keys
