"""What may be fetched: which ports, whose addresses, and who is asked for them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.outbound.addresses import Address, Target, is_public, leads_inside, not_allowed
from shared.outbound.errors import Unavailable
from shared.outbound.wire import look_up

__all__ = ["PUBLIC", "Policy", "Resolve"]

Resolve = Callable[[str, int], Iterable[str]]
"""Name and port to the addresses of the name; raises OSError when there are none."""


def _look_up(host: str, port: int) -> list[str]:
    # A link-local address comes with its zone ("fe80::1%eth0"), by which it is refused.
    return [str(found[4][0]) for found in look_up(host, port)]


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be fetched.

    `trusted`: hosts with a port, in their only spelling, which an operator vouches for (a sandbox on this
    machine): for those neither port nor address is checked. Never from a tenant's settings.
    `certificates`: path of a bundle of authorities to trust instead of those of `requests`.
    """

    ports: Sequence[int] = (80, 443)
    trusted: frozenset[tuple[str, int]] = frozenset()
    resolve: Resolve = _look_up
    admits: Callable[[Address], bool] = is_public
    certificates: str | None = None

    @classmethod
    def trusting(cls, hosts: Iterable[str]) -> Policy:
        """Return the policy of the public internet and of these hosts (`name:port`), which an operator vouches for."""
        split = (each.rpartition(":") for each in hosts)
        return cls(trusted=frozenset((host.strip("[]"), int(port)) for host, _, port in split))

    def addresses(self, target: Target) -> tuple[str, ...]:
        """Return the addresses to connect to, all of them admitted; resolves a name once.

        Raises Refused with the code `url_not_allowed`; Unavailable when the name does not resolve now.
        """
        trusted = (target.host, target.port) in self.trusted
        if not trusted and target.port not in self.ports:
            raise not_allowed(f"port {target.port} of {target.host}")
        if target.address is not None:
            found: tuple[str, ...] = (str(target.address),)
        elif not trusted and leads_inside(target.host):
            raise not_allowed(f"{target.host} is no public name")
        else:
            found = self._resolved(target)
        for text in found:
            try:
                public = trusted or self.admits(ipaddress.ip_address(text))
            except ValueError:
                public = False
            if not public:
                # One of several is enough: a connection falls back from one address to the next.
                raise not_allowed(f"{target.host} leads to {text}, which is not public")
        return found

    def _resolved(self, target: Target) -> tuple[str, ...]:
        try:
            found = tuple(dict.fromkeys(self.resolve(target.host, target.port)))
        except TimeoutError:
            raise Unavailable(f"{target.host} was not resolved in time", code="url_timeout") from None
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"{target.host}: {error}", code="url_host_unknown") from None
        if not found:
            raise Unavailable(f"{target.host} has no address", code="url_host_unknown")
        return found


PUBLIC: Final = Policy()
"""The public internet, and nothing besides."""
