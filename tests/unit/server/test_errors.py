"""Errors have OpenAI's shape, and anything the client sent can be printed in them."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import MAX_MESSAGE_CHARACTERS, ApiError, error_object, error_response, not_found


@pytest.mark.parametrize(
    ("error", "status", "kind", "field"),
    [
        (InputError("policy.rules", "is missing"), 400, "BadRequestError", "policy.rules"),
        (not_found("there is no policy 'x'", "name"), 404, "NotFoundError", "name"),
        (ApiError(HTTPStatus.CONFLICT, "is running", "name"), 409, "ConflictError", "name"),
        (ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "try again"), 503, "ServiceUnavailableError", None),
    ],
)
def test_a_response(error: ApiError | InputError, status: int, kind: str, field: str | None) -> None:
    response = error_response(error)
    assert response.status_code == status
    assert json.loads(bytes(response.body))["error"] == {
        "message": str(error), "type": kind, "param": field, "code": status,
    }  # fmt: skip
    assert "www-authenticate" not in response.headers


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("policy", "is wrong"), "invalid_request_error"),
        (ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body: is too large"), "request_too_large"),
        (not_found("there is none", "name"), "not_found_error"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_anthropics_shape_on_its_routes(error: ApiError | InputError, kind: str, path: str) -> None:
    shown = json.loads(bytes(error_response(error, path).body))
    assert shown == {"type": "error", "error": {"type": kind, "message": str(error)}}


def test_a_missing_key_says_which_scheme() -> None:
    response = error_response(ApiError(HTTPStatus.UNAUTHORIZED, "needs a key"))
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_any_other_error_has_the_shape_too() -> None:
    """In a stream that has started, the error is an event."""
    assert error_object(ValueError("no"))["error"]["code"] == 400
    assert error_object(RuntimeError("no"))["error"]["code"] == 500


def test_what_utf8_cannot_encode_is_escaped_and_long_messages_are_shortened() -> None:
    error = error_object(InputError("\ud800", "x" * 100_000))["error"]
    assert error["param"] == "\\ud800"
    assert len(error["message"]) == MAX_MESSAGE_CHARACTERS
    json.dumps(error, ensure_ascii=False).encode()


def test_what_may_succeed_later_says_when() -> None:
    response = error_response(ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "busy", retry_seconds=5))
    assert response.headers["Retry-After"] == "5"
