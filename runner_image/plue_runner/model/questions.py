"""Prompts as tools: an agent asks a question, and another call of a model answers it."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from plue.schemas import filled
from plue.wire.plan import Question
from plue_runner.model.answer import answer
from plue_runner.model.line import Line
from plue_runner.model.rendering import rendered_prompt
from plue_runner.model.schemas import is_closed
from plue_runner.model.tools import Tool

__all__ = ["question_tool"]


def question_tool(name: str, question: Question, line: Callable[[], Line], client: str) -> Tool:
    """Return *question* as the tool *name*, asked on a *line* of its own each time.

    *client* answers where the prompt names none.
    """
    prompt = question.prompt

    async def ask(given: Mapping[str, Any]) -> str:
        values = filled(prompt.inputs_schema, dict(given), nulls=True)
        known = values if isinstance(values, dict) else dict(given)
        text = await asyncio.to_thread(rendered_prompt, prompt, known, question.output_schema)
        own = line()
        try:
            fields, _ = await answer(
                own,
                client=prompt.client or client,
                prompt=own.tell.masker.text(text),
                schema=question.output_schema,
            )
        finally:
            own.tell.flush()
            await own.close()
        return json.dumps(fields, ensure_ascii=False)

    schema = dict(prompt.inputs_schema)
    return Tool(name, question.description, schema, ask, strict=is_closed(schema))
