"""Answers one question about a guest by dialling the replica that asked.

Does not decide who may ask: api did.
"""

import asyncio

from services.compute.flows.agent import Agent
from services.compute.flows.ports import Attachments, ConsoleLog, Driver, Question, StepFailed
from services.compute.logic.guest import Guest
from services.compute.logic.observation import Failure
from services.domain.errors import CloudError
from services.runtime.log import logger

ANSWER_S_MAX = 10.0
CONSOLE_BYTES_MAX = 1024 * 1024


async def answer_question(question: Question, *, agent: Agent, attachments: Attachments) -> None:
    """Sends the guest's console log, or why it cannot; a lost answer is only logged."""
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            guest = await agent.reconciler.look(question.claim)
            content = await _read(question, guest, agent.driver)
            await attachments.answer(question, content)
    except (CloudError, TimeoutError) as error:
        logger().warning("question not answered", error=repr(error), claim=str(question.claim))


async def _read(question: Question, guest: Guest | None, driver: Driver) -> ConsoleLog | Failure:
    if guest is None or not guest.prepared:
        return Failure("CONSOLE_NOT_READY", "there is no guest yet whose console could be read")
    max_bytes = min(max(1, question.max_bytes), CONSOLE_BYTES_MAX)
    try:
        return await driver.read_console_log(guest.identity, max_bytes)
    except StepFailed as error:
        return Failure(error.reason, error.message)
