"""Server processes that never outlive whoever started them, unless told to."""

from components.processes.servers import GRACE_S, Handle, Server, free_ports, port_taken, stop_all

__all__ = ["GRACE_S", "Handle", "Server", "free_ports", "port_taken", "stop_all"]
