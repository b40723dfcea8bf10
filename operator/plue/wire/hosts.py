"""How a host is named that runs may reach: the form that resources check and the domain reads."""

from typing import Final

__all__ = ["HOST_LABEL", "HOST_RULE"]

HOST_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
HOST_RULE: Final = rf"^(\*\.)?({HOST_LABEL}\.)+{HOST_LABEL}(:[0-9]{{1,5}})?$"
