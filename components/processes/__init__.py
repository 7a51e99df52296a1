"""Server processes that never outlive whoever started them, unless told to."""

from components.processes.servers import (
    GRACE_S,
    Handle,
    Server,
    free_ports,
    listen,
    port_taken,
    stop_all,
)
from components.processes.strays import Sweeper

__all__ = ["GRACE_S", "Handle", "Server", "Sweeper", "free_ports", "listen", "port_taken", "stop_all"]
