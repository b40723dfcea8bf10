"""Prompts: what files declare, and the text that one of them gives with inputs."""

from plue.api.callers import place_of
from plue.api.keys import ENGINE
from plue.api.models import ParsePrompts, PromptsResult, RenderedPrompt, RenderPrompt
from plue.api.queries import PlaceQuery
from plue.api.routes import Call, Outcome
from plue.api.views import diagnostic_bodies, prompt_body

__all__ = ["parse_prompts", "render_prompt"]


async def parse_prompts(call: Call[PlaceQuery, ParsePrompts]) -> Outcome:
    """Check prompts without running or storing anything."""
    await place_of(call.request, call.query.namespace)
    found = await call.request.app[ENGINE].describe_prompts(call.body.files)
    return PromptsResult(
        prompts=[prompt_body(info) for info in found.prompts],
        diagnostics=diagnostic_bodies(found.diagnostics),
    )


async def render_prompt(call: Call[PlaceQuery, RenderPrompt]) -> Outcome:
    """Render a prompt; what is wrong is part of the answer, not an error of the call."""
    await place_of(call.request, call.query.namespace)
    body = call.body
    found = await call.request.app[ENGINE].render_prompt(
        body.prompt, body.inputs, files=body.files, text_inputs=body.text_inputs
    )
    return RenderedPrompt(
        text=found.text,
        prompt=None if found.prompt is None else prompt_body(found.prompt),
        inputs=dict(found.inputs),
        diagnostics=diagnostic_bodies(found.diagnostics),
    )
