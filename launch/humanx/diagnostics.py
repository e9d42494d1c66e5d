"""Status of driver and policy as /diagnostics, which rqt_robot_monitor and diagnostic_aggregator read.

The mocap bridge and the simulated robot report their own.
"""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from humanx.operator import describe
from humanx_msgs.msg import DriverStatus, PolicyStatus

HARDWARE = 'unitree_g1'
MAX_MISS_RATE = 1e-3  # of the driver's cycles; more is a warning


def driver(status: DriverStatus | None) -> DiagnosticStatus:
    """Return the driver's diagnosis: an error while it damps because of a fault, stale where it is silent."""
    out = DiagnosticStatus(name='humanx: driver', hardware_id=HARDWARE)
    if status is None:
        out.level, out.message = DiagnosticStatus.STALE, 'no status from the driver'
        return out
    miss_rate = status.misses / max(status.cycles, 1)
    if status.fault:
        out.level = DiagnosticStatus.ERROR
    elif miss_rate > MAX_MISS_RATE:
        out.level = DiagnosticStatus.WARN
    out.message = describe(status)
    out.values = _values(
        network_interface=status.network_interface,
        realtime=status.realtime,
        faults=status.fault_count,
        period_mean_ms=_ms(status.period_mean),
        period_p99_ms=_ms(status.period_p99),
        period_max_ms=_ms(status.period_max),
        misses=f'{status.misses} of {status.cycles}',
        state_age_ms=_ms(status.state_age),
        targets_age_ms=_ms(status.targets_age),
        response_p99_ms=_ms(status.response_p99),
        clamped=status.clamped,
    )
    return out


def policy(status: PolicyStatus | None) -> DiagnosticStatus:
    """Return the policy node's diagnosis: an error where it failed, a warning where it waits for an input."""
    out = DiagnosticStatus(name='humanx: policy', hardware_id=HARDWARE)
    if status is None:
        out.level, out.message = DiagnosticStatus.STALE, 'no status from the policy node'
        return out
    levels = {PolicyStatus.FAILED: DiagnosticStatus.ERROR, PolicyStatus.WAITING: DiagnosticStatus.WARN}
    out.level = levels.get(status.state, DiagnosticStatus.OK)
    out.message = f'{status.skill} ({status.mode}): {status.reason}'
    out.values = _values(
        model_sha256=status.model_sha256,
        tick_mean_ms=_ms(status.tick_mean),
        tick_p99_ms=_ms(status.tick_p99),
        inference_mean_ms=_ms(status.inference_mean),
        late_ticks=f'{status.late_ticks} of {status.ticks}',
        state_age_ms=_ms(status.state_age),
        objects_age_ms=_ms(status.objects_age),
    )
    return out


def _ms(seconds: float) -> str:
    return f'{seconds * 1e3:.2f}'


def _values(**values: object) -> list[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in values.items()]
