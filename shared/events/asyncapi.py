"""The AsyncAPI 3 document: who publishes which events, who handles them, and how they travel.

Made from the contracts and the definitions of services, for readers and tools. A channel per type is what
one publishes to and binds to (a routing key of the topic exchange `events`); a channel per handling
service is the queue from which it reads. Source: https://www.asyncapi.com/docs/reference/specification/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from shared.events.contracts import EventContract, contract, contracts
from shared.events.contracts.contract import service_of
from shared.events.contracts.jobs import library_contracts

__all__ = ["ServiceLike", "asyncapi_document"]

_BINDING = "0.3.0"
_EXCHANGE = {"name": "events", "type": "topic", "durable": True, "autoDelete": False}
_JSON_SCHEMA = "application/schema+json;version=draft-07"

_ATTRIBUTES: dict[str, tuple[str, str]] = {
    "specversion": ("string", "The version of CloudEvents, always 1.0."),
    "id": ("string", "Unique with `source`; readers drop what they had."),
    "source": ("string", "Who says so: /backroom/<service>."),
    "type": ("string", "What happened, with the version of the contract. Also the routing key."),
    "subject": ("string", "The id of what it happened to."),
    "time": ("string", "When it happened, in UTC."),
    "datacontenttype": ("string", "The type of data, always application/json."),
    "dataschema": ("string", "Where the schema of data lies."),
    "tenantid": ("string", "The workspace in which it happened; `system` for none."),
    "sequence": ("string", "The version of the subject: drop what is older than what you have."),
    "principal": ("string", "Who asked for it: user:<id>, key:<id> or service:<name>."),
    "correlationid": ("string", "Shared by all that follows from one cause."),
    "causationid": ("string", "The id of the request, job or event that caused it."),
    "traceparent": ("string", "The W3C trace context."),
    "replay": ("string", "On a forced replay, the id of the event that is told again."),
}
_REQUIRED = ["specversion", "id", "source", "type", "time", "tenantid", "data"]


class ServiceLike(Protocol):
    """What must be known of a service: its name, title, and handlers by the type of event."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    def handlers(self) -> Mapping[str, Sequence[Any]]: ...


def asyncapi_document(services: Iterable[ServiceLike]) -> dict[str, Any]:
    """Return the AsyncAPI 3 document of these services: what each publishes, and what each handles."""
    services = sorted(services, key=lambda service: service.name)
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for service in services:
        for published in _published_by(service.name):
            _add_type(channels, messages, published.type, published)
            operations[f"{service.name}.publish.{_brief(published.type)}"] = {
                "action": "send",
                "title": f"{service.title} publishes {published.type}",
                "channel": {"$ref": f"#/channels/{published.type}"},
                "messages": [{"$ref": f"#/channels/{published.type}/messages/event"}],
                "bindings": {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": _BINDING}},
            }
    for service in services:
        handlers = service.handlers()
        if not handlers:
            continue
        queue = f"{service.name}.events"
        for event_type in handlers:
            _add_type(channels, messages, event_type, _contract_or_none(event_type))
        channels[queue] = _queue_channel(service, queue, sorted(handlers))
        for event_type, actors in sorted(handlers.items()):
            for actor in actors:
                operations[f"{service.name}.handle.{actor.actor_name}"] = {
                    "action": "receive",
                    "title": f"{service.title}: {actor.actor_name}",
                    "summary": _first_line(actor.fn.__doc__),
                    "channel": {"$ref": f"#/channels/{queue}"},
                    "messages": [{"$ref": f"#/channels/{queue}/messages/{event_type}"}],
                    "bindings": {"amqp": {"ack": True, "bindingVersion": _BINDING}},
                }
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Events of Backroom",
            "version": "1",
            "description": "CloudEvents 1.0 in structured JSON over RabbitMQ. Any language may publish and subscribe: "
            "publish to the exchange `events` with the event's type as routing key, persistent, mandatory and with "
            "confirms; subscribe with a queue of your own, bound to the types that you want. An event may arrive more "
            "than once and out of order: remember ids, compare sequences.",
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {
            "rabbitmq": {
                "host": "{host}",
                "protocol": "amqp",
                "protocolVersion": "0-9-1",
                "variables": {"host": {"default": "localhost:5672", "description": "Where RabbitMQ is."}},
            }
        },
        "channels": dict(sorted(channels.items())),
        "operations": dict(sorted(operations.items())),
        "components": {"messages": dict(sorted(messages.items()))},
    }


def _published_by(service: str) -> list[type[EventContract]]:
    own = {declared.type: declared for declared in contracts().values() if service_of(declared.type) == service}
    own.update({declared.type: declared for declared in library_contracts(service)})
    return [own[event_type] for event_type in sorted(own)]


def _contract_or_none(event_type: str) -> type[EventContract] | None:
    try:
        return contract(event_type)
    except LookupError:
        return None


def _add_type(
    channels: dict[str, Any], messages: dict[str, Any], event_type: str, declared: type[EventContract] | None
) -> None:
    if event_type in channels:
        return
    messages[event_type] = _message(event_type, declared)
    channels[event_type] = {
        "address": event_type,
        "title": event_type,
        "messages": {"event": {"$ref": f"#/components/messages/{event_type}"}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": _EXCHANGE, "bindingVersion": _BINDING}},
    }


def _queue_channel(service: ServiceLike, queue: str, types: Sequence[str]) -> dict[str, Any]:
    return {
        "address": queue,
        "title": f"What {service.title} reads",
        "description": f"Bound to the exchange `events`. What cannot be handled lies in `{queue}.dead`.",
        "messages": {event_type: {"$ref": f"#/components/messages/{event_type}"} for event_type in types},
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": queue, "durable": True, "exclusive": False, "autoDelete": False},
                "bindingVersion": _BINDING,
            }
        },
    }


def _message(event_type: str, declared: type[EventContract] | None) -> dict[str, Any]:
    properties: dict[str, Any] = {
        name: {"type": kind, "description": meaning} for name, (kind, meaning) in _ATTRIBUTES.items()
    }
    properties["specversion"]["const"] = "1.0"
    properties["type"]["const"] = event_type
    properties["time"]["format"] = "date-time"
    properties["data"] = {} if declared is None else _inlined(declared.model_json_schema())
    message: dict[str, Any] = {
        "name": event_type,
        "title": event_type,
        "contentType": "application/cloudevents+json",
        "payload": {
            "schemaFormat": _JSON_SCHEMA,
            "schema": {"type": "object", "required": _REQUIRED, "properties": properties},
        },
        "bindings": {"amqp": {"messageType": event_type, "bindingVersion": _BINDING}},
    }
    if declared is not None:
        message["summary"] = _first_line(declared.__doc__)
    return message


def _inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without references: each message of the document stands for itself."""
    definitions = schema.get("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            found = definitions[node["$ref"].removeprefix("#/$defs/")]
            return walk({**found, **{key: value for key, value in node.items() if key != "$ref"}})
        return {key: walk(value) for key, value in node.items() if key not in ("$defs", "examples")}

    inlined: dict[str, Any] = walk(dict(schema))
    return inlined


def _brief(event_type: str) -> str:
    """Return a type without what all types of a service share: `label.purchased.v1`."""
    return event_type.split(".", 2)[2]


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().split("\n", 1)[0]
