"""A connection to a Ray cluster, for what runs on many machines (the extra ``scale``)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modernpubmed.errors import ModernPubMedError, needs_extra

#: The address that means: a cluster of this machine, for this call only.
LOCAL = "local"

#: What a cluster of this machine is told: to report to nobody, and to listen on the loopback
#: interface only, which on Linux it would not do by itself.
ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

# Seconds in which a cluster answers; Ray itself would try for minutes.
_PATIENCE = 10.0


def import_ray(address: str, feature: str) -> Any:
    """Ray, set up for the cluster at ``address`` while it still reads its settings.

    Raises:
        MissingExtraError: The extra ``scale``, which ``feature`` needs, is not installed.
    """
    if address == LOCAL:
        os.environ.update(ALONE)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with needs_extra("scale", feature):
        import ray
    return ray


@contextmanager
def connected(ray: Any, address: str, **local: Any) -> Iterator[bool]:
    """Connects this process; a connection that it has already is used, and kept.

    Args:
        ray: What ``import_ray`` gives.
        address: ``local``, ``auto``, ``host:port`` or ``ray://host:port``.
        **local: Ray's settings of a cluster that is started here, which ends with the context.

    Yields:
        Whether the connection is made here.

    Raises:
        ModernPubMedError: No cluster answers there.
    """
    if ray.is_initialized():
        yield False
        return
    own: dict[str, Any] = {}
    if address == LOCAL:
        own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1", **local}
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host, int(port)), _PATIENCE).close()
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        raise ModernPubMedError(
            f"no Ray cluster answers ({last_line(error)})",
            file=address,
            remedy="give local, auto, host:port or ray://host:port; ray status shows a cluster",
        ) from error
    try:
        yield True
    finally:
        ray.shutdown()


def last_line(error: Exception) -> str:
    """What an error says last: Ray puts a traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
