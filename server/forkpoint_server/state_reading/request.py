"""The body of `POST /v1/states`: of which answer, and at which positions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forkpoint_policies.spec import MAX_RULES, InputError, Policy, parse_policy
from forkpoint_policies.spec.errors import explain
from forkpoint_policies.worker.kept_states import LAST_LAYER, layer_name

MAX_STATES = 4096
MAX_LAYERS = 64
Layer = Literal["last"] | Annotated[int, Field(ge=0, strict=True)]


def _everywhere() -> list[dict[str, Any]]:
    return [{}]


def _last() -> list[Layer]:
    return ["last"]


class StatesRequest(BaseModel):
    """The answer `choice` of the response `request_id`, whose trace must be stored; the states at the first
    `max_states` positions at which one of the conditions in `when` holds, written as in a policy's rules. `layers` are
    numbers of hooked layers, and `last` for the last layer after the final norm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: Annotated[str, Field(min_length=1, max_length=512)]
    choice: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    when: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_RULES, fail_fast=True)] = Field(
        default_factory=_everywhere
    )
    max_states: Annotated[int, Field(ge=1, le=MAX_STATES, strict=True)] = 256
    layers: Annotated[list[Layer], Field(min_length=1, max_length=MAX_LAYERS, fail_fast=True)] = Field(
        default_factory=_last
    )

    @property
    def names(self) -> list[str]:
        """Of the tensors with the layers' states in the response."""
        return [LAST_LAYER if layer == "last" else layer_name(layer) for layer in dict.fromkeys(self.layers)]

    def check_layers(self, hooked: Collection[int]) -> None:
        """Raise InputError for a layer that the server does not hook."""
        unknown = next((layer for layer in self.layers if layer != "last" and layer not in hooked), None)
        if unknown is None:
            return
        started = f"with --hidden-layers {','.join(map(str, hooked))}" if hooked else "without --hidden-layers"
        raise InputError("layers", f"layer {unknown} is not hooked: this server was started {started}")

    @property
    def policy(self) -> Policy:
        """A rule that only observes for each condition. Raises InputError."""
        rules = [{"when": condition, "do": {"observe": {}}} for condition in self.when]
        try:
            return parse_policy({"name": "states", "rules": rules})
        except InputError as error:
            raise in_the_body(error) from None


def parse_request(body: Any) -> StatesRequest:
    """Parse the request's body. Raises InputError naming the field at fault."""
    if not isinstance(body, dict):
        raise InputError("body", "must be an object with `request_id`, the id of a response")
    try:
        return StatesRequest.model_validate(body)
    except ValidationError as error:
        raise explain(error, StatesRequest, noun="a request for states") from None


def in_the_body(error: InputError) -> InputError:
    """An error about the policy, about the condition that stands there in the body."""
    field = error.field.replace("policy.rules", "when").replace("].when", "]")
    return InputError(field, error.message)
