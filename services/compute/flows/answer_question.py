"""Answers one question about a guest by dialling the replica that asked.

Does not decide who may ask: api did.
"""

import asyncio

from services.compute.flows.attach_console import Consoles, attach_console
from services.compute.flows.console_ports import Attachments, ConsoleAsk, ConsoleLog, Question
from services.compute.flows.ports import StepFailed
from services.compute.logic.observation import Failure
from services.domain.errors import CloudError
from services.runtime.log import logger

ANSWER_S_MAX = 10.0
CONSOLE_BYTES_MAX = 1024 * 1024


async def answer_question(
    question: Question, *, consoles: Consoles, attachments: Attachments
) -> None:
    """Joins the console, or sends its log, or why it cannot; a lost answer is only logged."""
    if isinstance(question.ask, ConsoleAsk):
        await attach_console(question, question.ask, consoles=consoles, attachments=attachments)
        return
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            content = await _read(question, question.ask.max_bytes, consoles)
            await attachments.answer(question, content)
    except (CloudError, TimeoutError) as error:
        logger().warning("question not answered", error=repr(error), claim=str(question.claim))


async def refuse_question(question: Question, *, attachments: Attachments) -> None:
    """Says that this host answers as many as it can; a lost answer is only logged."""
    full = Failure("CONSOLES_FULL", "this host answers as many questions as it can")
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            await attachments.answer(question, full)
    except (CloudError, TimeoutError) as error:
        logger().warning("question not refused", error=repr(error), claim=str(question.claim))


async def _read(question: Question, max_bytes: int, consoles: Consoles) -> ConsoleLog | Failure:
    try:
        identity = await consoles.find(question.claim)
        most = min(max(1, max_bytes), CONSOLE_BYTES_MAX)
        return await consoles.driver.read_console_log(identity, most)
    except StepFailed as error:
        return Failure(error.reason, error.message)
