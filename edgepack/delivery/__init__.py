"""Push, status, rollback, check and enrol: a bundle's way to many boards at once, each on its own.

What goes wrong on one board is that board's result; the others go on.
"""

from edgepack.delivery.asking import check, enrol, entrust, rollback, status
from edgepack.delivery.pushing import push
from edgepack.delivery.restricting import authorize
from edgepack.delivery.results import CheckResult, Failure, PushResult, ReleaseStatus, RollbackResult, TargetStatus
from edgepack.delivery.trying import tried

__all__ = [
    "CheckResult",
    "Failure",
    "PushResult",
    "ReleaseStatus",
    "RollbackResult",
    "TargetStatus",
    "authorize",
    "check",
    "enrol",
    "entrust",
    "push",
    "rollback",
    "status",
    "tried",
]
