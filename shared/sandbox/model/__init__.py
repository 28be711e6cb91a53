"""A stand-in for a language model behind OpenAI's chat completions, which writes rules about orders.

`POST /v1/chat/completions` takes `{"model", "messages", "response_format"}` and answers with a completion. The first
message of the user is a sentence such as "tell me when an order is in Processing for more than 3 days"; the answer is
always the same for the same sentence. What it is made to say by a fault (`model_says`) may be anything.
"""

import json
import re
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from shared.sandbox.model.rules import rule_of
from shared.sandbox.provider import Provider
from shared.sandbox.web import HttpError, Request, Response, Route, reply

if TYPE_CHECKING:
    from shared.sandbox.core import Core

#: How many conversations are kept for whoever looks at them.
KEPT = 200


class Model(Provider):
    """A key that starts with model_test_ is an account of its own; who sends none is the guest."""

    name: ClassVar[str] = "model"

    def __init__(self, core: "Core"):
        super().__init__(core)
        self.asked: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def routes(self) -> list[Route]:
        outcomes = frozenset({"model_says"})
        return [Route("POST", "/v1/chat/completions", self.complete, outcomes)]

    def authenticate(self, request: Request) -> str:
        header = request.headers.get("Authorization", "")
        if not header:
            return "guest"
        if not (found := re.fullmatch(r"Bearer (model_test_[\w.-]+)", header)):
            message = f"Incorrect API key provided: {header.removeprefix('Bearer ')}."
            raise HttpError(401, _error(message, "invalid_api_key"))
        return found[1]

    def error_body(self, status: int) -> Any:
        return _error(f"HTTP {status}", "rate_limit_exceeded" if status == 429 else "server_error")

    def controls(self) -> list[Route]:
        return [Route("GET", "/model", self.conversations)]

    def reset(self) -> None:
        self.asked.clear()

    def conversations(self, request: Request) -> Response:
        """{"asked": [{account, model, messages, response_format}]}: what was sent, oldest first."""
        return reply({"asked": list(self.asked)})

    def complete(self, request: Request) -> Response:
        data = request.json()
        name, messages = data.get("model"), data.get("messages")
        if not isinstance(name, str) or not isinstance(messages, list) or not messages:
            raise HttpError(400, _error("model and messages are needed.", "invalid_request"))
        if name == "missing":
            raise HttpError(404, _error(f"The model {name} does not exist.", "model_not_found"))
        self.asked.append(
            {
                "account": request.account,
                "model": name,
                "messages": messages,
                "response_format": data.get("response_format"),
            }
        )
        content = request.fault.params["content"] if request.fault is not None else _rule(messages)
        return reply(
            {
                "id": f"chatcmpl-{len(self.asked)}",
                "object": "chat.completion",
                "created": int(self.core.clock.now()),
                "model": name,
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )


def _rule(messages: list[Any]) -> str:
    said = next((each.get("content", "") for each in messages if each.get("role") == "user"), "")
    return json.dumps({"rule": rule_of(str(said))})


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


__all__ = ["Model"]
