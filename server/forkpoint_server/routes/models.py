"""`GET /v1/models/{id}`, which vLLM lacks: a served model, an adapter, or an alias MODEL:POLICY."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from forkpoint_policies.spec import unknown_name
from forkpoint_server.errors import not_found
from forkpoint_server.http.model_list import alias_card
from forkpoint_server.policies.resolve import NONE, split_model
from forkpoint_server.service import Service


def models_router(service: Service) -> APIRouter:
    """The route, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])

    @router.get("/v1/models/{model_id:path}")
    async def show_model(model_id: str, request: Request) -> Any:
        """One model, adapter or alias, as `GET /v1/models` lists it. Every alias is shown, whether listed or not."""
        listed = await request.app.state.openai_serving_models.show_available_models()
        cards = {card.id: card.model_dump() for card in listed.data}
        if model_id in cards:
            return cards[model_id]
        model, policy = split_model(model_id, cards)
        if policy is not None and (policy == NONE or policy in service.registry):
            return alias_card(cards[model], policy)
        if policy is not None:
            message = unknown_name("policy", policy, [named.policy.name for named in service.registry])
        else:
            message = unknown_name("model", model_id, list(cards))
        raise not_found(message, "model")

    return router
