"""What is in a bag, for people."""

from pathlib import Path

import numpy as np

from humanx_g1_driver.bag_read import open_bag, prepare, read_session


def describe(path: Path) -> list[str]:
    """Return the lines of ``humanx bag info``: the trial, then per topic its messages, rate and longest gap."""
    folder, recovered = prepare(path)
    lines = []
    with open_bag(folder) as reader:
        session = read_session(reader)
        lines.append(f'{folder}: {reader.duration * 1e-9:.1f} s, {reader.message_count} messages')
        if recovered:
            lines.append('  its recorder was killed: completed up to the last whole chunk')
        if session.skill:
            lines.append(f'  skill {session.skill}, mode {session.mode or "?"}, seed {session.seed}')
            lines.append(f'  policy sha256 {session.policy_sha256 or "unknown"}, recorded {session.started}')
            count = sum(map(len, session.parameters.values()))
            lines.append(f'  {count} parameters of {len(session.parameters)} nodes')
        stamps: dict[str, list[int]] = {}
        for connection, stamp, _ in reader.messages():
            stamps.setdefault(connection.topic, []).append(stamp)
        width = max((len(c.topic) for c in reader.connections), default=0)
        for connection in sorted(reader.connections, key=lambda c: c.topic):
            times = np.array(stamps.get(connection.topic, ()), dtype=np.int64)
            line = f'  {connection.topic:<{width}}  {connection.msgcount:>7}  {connection.msgtype}'
            if len(times) > 2:
                rate = (len(times) - 1) / max((times[-1] - times[0]) * 1e-9, 1e-9)
                line += f'  {rate:.1f} Hz, longest gap {np.diff(times).max() * 1e-6:.0f} ms'
            lines.append(line)
    return lines
