"""What a stand-in for one third party has to say about itself.

To add one: a module or package with a subclass, listed in `core.PROVIDERS`. Its routes share the root of the
sandbox's URL with those of the others, as their paths do not meet.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from .web import Request, Route

if TYPE_CHECKING:
    from .core import Core


class Provider:
    """Base of all stand-ins. State lives in `core.books`, which survive a restart, not in the provider."""

    name: ClassVar[str]

    def __init__(self, core: "Core"):
        self.core = core

    def routes(self) -> list[Route]:
        raise NotImplementedError

    def authenticate(self, request: Request) -> str:
        """The account that calls. Raises HttpError with the status and body that the third party gives."""
        raise NotImplementedError

    def allowance(self, account: str, limit: tuple[str, str]) -> int | None:
        """Calls per minute that the account has for (resource, operation); None: no limit."""
        return None

    def error_body(self, status: int) -> Any:
        """The body of an error that a fault rule asks for by status alone."""
        return {"detail": f"HTTP {status}"}

    def resume(self) -> None:
        """Take up again what a killed sandbox left unfinished in its books."""

    def controls(self) -> list[Route]:
        """What tests may do to this third party beyond its API; paths below /_sandbox."""
        return []

    def serving(self, request: Request) -> AbstractContextManager[None]:
        """What surrounds a call from its admission until its answer was sent, well or badly."""
        return nullcontext()

    def release(self) -> int:
        """Let go on what hangs besides HTTP calls; how much that was."""
        return 0

    def reset(self) -> None:
        """Forget what is not in the books."""

    def start(self, host: str) -> None:
        """Listen, where the third party speaks more than HTTP. Raises OSError."""

    def stop(self) -> None:
        """Close what the provider opened besides the sandbox's HTTP port."""
