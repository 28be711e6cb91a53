"""What people do at the door: sign up, follow the link in a mail, come in."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import requests

from shared.sandbox.client import SandboxError

__all__ = ["PATIENCE", "Door"]

PATIENCE: Final = 60.0
"""Seconds to wait for anything of the story."""


class Door:
    """The APIs of the group, for people who come with a token or without one."""

    def __init__(self, group: Any) -> None:
        self.group = group

    def call(self, service: str, method: str, path: str, body: Any = None, token: str = "") -> requests.Response:
        """Call an API; return the answer, whatever it is."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.group.members[service].url}{path}"
        return requests.request(method, url, json=body, headers=headers, timeout=30)

    def get(self, service: str, path: str, token: str) -> Any:
        """Read something that is there."""
        answer = self.call(service, "GET", path, token=token)
        answer.raise_for_status()
        return answer.json()

    def sign_up(self, subdomain: str, name: str, email: str, owner: str, plan: str = "team") -> None:
        """Make a workspace; its owner is mailed a link."""
        body = {"name": name, "subdomain": subdomain, "email": email, "owner_name": owner, "plan": plan}
        self.call("workspaces", "POST", "/v1/workspaces", body).raise_for_status()

    def mailed_link(self, email: str) -> dict[str, str]:
        """Wait for the mail with a link; return what the link says behind its #: token and workspace."""

        def look() -> str | None:
            try:
                return str(self.group.sandbox.mail_link(email))
            except SandboxError:
                return None

        said = parse_qs(urlsplit(self.group.sandbox.wait(look, PATIENCE, f"the mail to {email}")).fragment)
        return {name: said[name][0] for name in ("token", "workspace")}

    def follow(self, link: dict[str, str]) -> requests.Response:
        """Sign in with a link; return the answer."""
        return self.call("workspaces", "POST", "/v1/sessions", link)

    def come_in(self, email: str) -> str:
        """Follow the link that was mailed; return the token with which every service lets one in."""
        answer = self.follow(self.mailed_link(email))
        answer.raise_for_status()
        return str(answer.json()["access_token"])
