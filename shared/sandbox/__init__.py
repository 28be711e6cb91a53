"""Stand-ins for third parties over real HTTP, with programmable faults and a ledger of what was charged.

They serve a developer on their own and judge tests: the ledger is the truth about what was bought, whatever
our own records say. Nothing here knows our services. See README.md.
"""

from .client import Sandbox, SandboxClient, SandboxError

__all__ = ["Sandbox", "SandboxClient", "SandboxError"]
