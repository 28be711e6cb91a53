"""The beginning: four workspaces, and their people."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console

from services.workspaces.demo.door import Door

__all__ = ["run"]

COMPANIES = {"acme": "Acme Packaging", "globex": "Globex Labels", "initech": "Initech Floors", "umbra": "Umbra Films"}
PEOPLE = {"fay": ("Fay Fulfillment", "fulfillment"), "sam": ("Sam Sales", "sales")}


def run(group: Any, console: Console, seed: int) -> bool:
    """Tell it; return whether each link let in one person, once."""
    door = Door(group)
    console.print(f"\n[bold]{len(COMPANIES)} workspaces[/bold] are made: {', '.join(COMPANIES.values())}.")
    began = time.perf_counter()
    for subdomain, name in COMPANIES.items():
        door.sign_up(subdomain, name, f"ada@{subdomain}.example", "Ada Owner")
    link = door.mailed_link("ada@acme.example")
    console.print(f"Ada has a link to sign in in her mail after {time.perf_counter() - began:.1f} s, and follows it.")
    first, again = door.follow(link), door.follow(link)
    door_holds = (first.status_code, again.status_code) == (201, 401)
    console.print(
        f"It lets her in ({first.status_code}); followed once more it does not: [dim]{again.json()['detail']}[/dim]"
    )
    tokens = {"acme": str(first.json()["access_token"])}
    tokens |= {name: door.come_in(f"ada@{name}.example") for name in COMPANIES if name != "acme"}
    for subdomain, token in tokens.items():
        for first_name, (name, role) in PEOPLE.items():
            body = {"email": f"{first_name}@{subdomain}.example", "name": name, "role": role}
            door.call("workspaces", "POST", "/v1/members", body, token).raise_for_status()
    inside = [door.come_in(f"{name}@{subdomain}.example") for subdomain in COMPANIES for name in PEOPLE]
    read = [door.call("shipping", "GET", "/v1/orders", token=token).status_code for token in inside]
    console.print(
        f"{len(inside)} more people follow their invitations. "
        "Their tokens are good in every service, which asks nobody about them."
    )
    return door_holds and set(read) == {200}
