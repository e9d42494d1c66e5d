"""Writes bags of made-up trials for the tests."""

from pathlib import Path

import numpy as np

from humanx_description.scene import default_qpos
from humanx_description.skills import load_skill, skill_path
from humanx_g1_driver.bag_judge import STATUS_TOPIC, TRUTH_TOPIC
from humanx_g1_driver.bag_read import SESSION_TOPIC, Session
from humanx_g1_driver.bag_types import typestore
from humanx_g1_driver.bag_write import BagWriter, qos

RUN, DAMP = 3, 1
START_NS = 1_700_000_000_000_000_000
FOOT = ('right_ankle_roll_link', 'ball')


def _cdr(message: object, kind: str) -> bytes:
    return bytes(typestore().serialize_cdr(message, kind))


def _header(stamp_ns: int) -> object:
    types = typestore().types
    time = types['builtin_interfaces/msg/Time'](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return types['std_msgs/msg/Header'](stamp=time, frame_id='world')


def _status(stamp_ns: int, state: int, reason: str) -> bytes:
    kind = 'humanx_msgs/msg/DriverStatus'
    cls = typestore().types[kind]
    zero = typestore().types['builtin_interfaces/msg/Time'](sec=0, nanosec=0)
    values = {
        name: (False if node[1][0] == 'bool' else '' if node[1][0] == 'string' else 0)
        for name, node in typestore().fielddefs[kind][1]
        if node[0].name == 'BASE'
    }
    values |= {'header': _header(stamp_ns), 'state': state, 'reason': reason, 'fault_stamp': zero}
    return _cdr(cls(**values), kind)


def write_trial(
    directory: Path,
    skill_name: str,
    *,
    seconds: float = 8.5,
    fall_at: float | None = None,
    damp_at: float | None = None,
    touch_at: float | None = None,
    kick: tuple[float, float] = (2.0, 0.0),
    launches: tuple[float, ...] = (1.0,),
    seed: int = 3,
) -> Path:
    """Write a trial of a robot that stands; ``kick`` is the ball's horizontal velocity (m/s) after ``touch_at``."""
    skill = load_skill(skill_name)
    writer = BagWriter(directory)
    writer.add_topic(TRUTH_TOPIC, 'humanx_msgs/msg/SimTruth', qos())
    writer.add_topic(STATUS_TOPIC, 'humanx_msgs/msg/DriverStatus', qos())
    writer.add_topic(SESSION_TOPIC, 'std_msgs/msg/String', qos(latched=True))
    session = Session(skill=skill.name, skill_yaml=skill_path(skill_name).read_text(), seed=seed)
    string = typestore().types['std_msgs/msg/String'](data=session.to_json())
    writer.write(SESSION_TOPIC, START_NS, _cdr(string, 'std_msgs/msg/String'))
    cls = typestore().types['humanx_msgs/msg/SimTruth']
    has_ball = skill.main_object is not None
    for index in range(-50, int(seconds * 100)):
        now = index * 0.01
        stamp = START_NS + 10**9 + index * 10**7
        qpos = default_qpos(skill.objects)
        qvel = np.zeros(35 + 6 * has_ball)
        if fall_at is not None and now > fall_at:
            qpos[2] = 0.2
        past = [t for t in launches if t <= now]
        contacts = []
        if has_ball:
            struck = touch_at is not None and now >= touch_at
            qpos[36:39] = (0.3, -0.1, 0.11)
            qvel[35:37] = kick if struck and now > touch_at + 0.02 else (-1.0, 0.0)
            if struck:
                qpos[36:38] += np.array(kick) * (now - touch_at)
            if touch_at is not None and 0 <= now - touch_at < 0.03:
                contacts = [FOOT]
        writer.write(TRUTH_TOPIC, stamp, _cdr(cls(
            header=_header(stamp), sim_time=10.0 + now, steps_dropped=0, skill=skill.name, seed=seed, episode=1,
            gantry=2, objects=int(bool(past)), launches=len(past), since_run=now if now >= 0 else -1.0,
            since_launch=now - past[-1] if past else -1.0, scenario_origin=np.zeros(3), scenario_yaw=0.0,
            partner=np.array([3.0, -0.15, 0.11]), qpos=qpos, qvel=qvel, torque=np.zeros(29),
            object_names=['ball'] if has_ball else [], contact_body1=[a for a, _ in contacts],
            contact_body2=[b for _, b in contacts],
        ), 'humanx_msgs/msg/SimTruth'))  # fmt: skip
        if index % 10 == 0 and index >= 0:
            left = damp_at is not None and now >= damp_at
            reason = 'joint targets stopped' if left else 'running'
            writer.write(STATUS_TOPIC, stamp, _status(stamp, DAMP if left else RUN, reason))
    writer.close()
    return directory
