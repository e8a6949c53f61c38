"""Makes what runs on one host equal to what is wanted of it: look, plan, act, look again.

One worker per instance that needs work, a bounded number of steps at a time. Whatever wakes a
worker (a view, a command, an event of the hypervisor, the slow look) makes it do the same. Owns the
memory of this agent's builds. Does not choose steps (`logic.plan`), nor speak to the control plane.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random, SystemRandom

from services.compute.flows.fetch_image import ImageFetcher
from services.compute.flows.ports import Blobs, CommandBatch, Driver, ImageFile, StepFailed
from services.compute.flows.take_inventory import Counter
from services.compute.flows.take_step import RestingError, take_step
from services.compute.logic.guest import Claim, Guest, Identity
from services.compute.logic.observation import Failure, Observation, Past, observation_of
from services.compute.logic.outbox import Outbox
from services.compute.logic.plan import Moment, Refusal, Step, StepKind, Wait, next_step
from services.compute.logic.wanted import View, Wanted, Wishes
from services.domain.trace import UNTRACED, Trace
from services.runtime.log import logger
from services.runtime.telemetry import traced

STEPS_PER_PASS_MAX = 24
STARTS_PER_PASS_MAX = 4
RETRY_S = 0.2
RETRY_S_MAX = 30.0
SLOW_LOOK_S = 30.0
# What a guest that has lived may fail to follow.
SWITCHES = frozenset(
    {StepKind.START, StepKind.PAUSE, StepKind.UNPAUSE, StepKind.SUSPEND, StepKind.RESUME}
)
PROGRESS_S = 3.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What one host works with; at most `steps_max` steps of its driver run at a time. `rng` is
    what its waits are drawn from. `boot_id` names this boot of the machine where guests may start
    without a view, and is "" elsewhere.
    """

    driver: Driver
    images: ImageFetcher
    blobs: Blobs
    steps_max: int
    rng: Random = field(default_factory=SystemRandom)
    boot_id: str = ""


class Reconciler:
    """The hands of one host. `spoke` is called whenever the outbox got something new."""

    def __init__(self, tools: Tools, *, cloud_id: str, spoke: Callable[[], None]) -> None:
        self.wishes = Wishes()
        self.outbox = Outbox()
        self.counter = Counter(tools.driver, tools.rng)
        self._cloud_id = cloud_id
        self._driver = tools.driver
        self._images = tools.images
        self._blobs = tools.blobs
        self._rng = tools.rng
        self._spoke = spoke
        self._boot_id = tools.boot_id
        self._steps_max = tools.steps_max
        self._steps = asyncio.Semaphore(tools.steps_max)
        self._resting = False
        self._past = Past()
        self._graceful_stop: bool | None = None
        self._workers: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    async def run(self) -> None:
        """Works until cancelled; then ends every worker, wherever it is."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._look_slowly())
        finally:
            workers = [task for task, _ in self._workers.values()]
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def rest(self) -> None:
        """Lets the steps that were begun come to their end, and begins none any more."""
        self._resting = True
        for _ in range(self._steps_max):
            await self._steps.acquire()

    def nudge(self, instance_id: str) -> None:
        """Makes a worker look at the instance now, or again when it is at it."""
        found = self._workers.get(instance_id)
        if found is not None:
            found[1].set()
            return
        again = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._work(instance_id, again))
        self._workers[instance_id] = (task, again)

    def take_view(self, view: View, *, greeted: bool = False) -> None:
        """Takes all that is wanted; under a new incarnation everything seen is said again. After a
        greeting it is a new one, even if a database that was set back gives its number again.
        """
        if greeted or view.incarnation != self.wishes.incarnation:
            self.outbox.begin()
        instance_ids = self.wishes.take_view(view)
        self._past.keep(self.wishes.claims())
        for instance_id in sorted(instance_ids):
            self.nudge(instance_id)

    def take_command(self, batch: CommandBatch) -> None:
        """Takes what else is wanted, where it counts."""
        for instance_id in sorted(self.wishes.take_command(batch.incarnation, batch.wanted)):
            self.nudge(instance_id)

    def end(self, claim: Claim) -> None:
        """Takes note that the conductor knows that nothing of the claim is left."""
        self.wishes.end(claim)
        self.outbox.forget(claim)

    async def look(self, claim: Claim) -> Guest | None:
        """The guest of a claim as it is now."""
        guests = await self._driver.find_guests(claim.instance_id)
        return next((g for g in guests if g.identity.claim == claim), None)

    async def _work(self, instance_id: str, again: asyncio.Event) -> None:
        tries = 0
        try:
            while True:
                again.clear()
                with traced(self._trace(instance_id)):
                    try:
                        pause = await self._settle(instance_id)
                        tries = 0
                    except RestingError:
                        return
                    except Exception as error:  # noqa: BLE001  # whatever it is, it is tried again
                        tries += 1
                        logger().warning(
                            "step failed", instance=instance_id, tries=tries, error=repr(error)
                        )
                        pause = Wait(_backoff_s(tries, self._rng))
                if pause is not None:
                    await _wait(again, pause.wait_s)
                    continue
                # No await from here to the end: a nudge cannot fall in between.
                if not again.is_set():
                    return
        finally:
            del self._workers[instance_id]

    async def _settle(self, instance_id: str) -> Wait | None:
        starts = 0
        for _ in range(STEPS_PER_PASS_MAX):
            guests = await self._driver.find_guests(instance_id)
            wanted = self.wishes.of(instance_id)
            self._past.note(guests)
            self._observe(wanted, guests)
            step = next_step(wanted, guests, past=self._past, moment=await self._moment())
            if step is None or isinstance(step, Wait):
                return step
            if isinstance(step, Refusal):
                self._past.failures[step.wanted.claim] = step.failure
                continue
            starts += step.kind is StepKind.START
            if starts > STARTS_PER_PASS_MAX:
                self._fail(step, Failure("GUEST_ENDS_AT_ONCE", "the guest does not stay on"))
                continue
            await self._try(step, guests)
        raise TimeoutError(f"not settled after {STEPS_PER_PASS_MAX} steps")

    async def _moment(self) -> Moment:
        if self._graceful_stop is None:
            self._graceful_stop = (await self._driver.capabilities()).graceful_stop
        return Moment(asyncio.get_running_loop().time(), self._graceful_stop, self._boot_id)

    async def _try(self, step: Step, guests: Sequence[Guest]) -> None:
        claim = step.wanted.claim
        try:
            if step.kind is StepKind.ASK:
                await self._ask(step, guests)
            else:
                await self._act(step)
        except StepFailed as error:
            if step.kind in (StepKind.STOP, StepKind.ERASE) or not step.wanted.spec.present:
                # Absence may not be claimed while something is left: removal is tried for ever.
                raise RuntimeError(f"{step.kind.value}: {error.reason}: {error}") from error
            self._fail(step, Failure(error.reason, error.message))
        else:
            if step.kind in (StepKind.MARK_APPLIED, StepKind.ERASE):
                generation = step.wanted.generation
                logger().info("wish met", instance=claim.instance_id, generation=generation)

    async def _ask(self, step: Step, guests: Sequence[Guest]) -> None:
        claim = step.wanted.claim
        guest = next(g for g in guests if g.identity.claim == claim)
        self._past.asked[claim] = (guest.incarnation, asyncio.get_running_loop().time())
        try:
            await self._act(step)
        except RestingError:
            raise
        except Exception as error:  # noqa: BLE001  # its grace runs out, however it is asked
            logger().warning("not asked to stop", instance=claim.instance_id, error=repr(error))

    def _fail(self, step: Step, why: Failure) -> None:
        wanted = step.wanted
        failure = replace(why, generation=wanted.generation)
        if wanted.claim not in self._past.applied:
            self._past.failures[wanted.claim] = failure
        elif step.kind in SWITCHES:
            # It holds its owner's work: it is left as it is, and told.
            self._past.missed[wanted.claim] = failure
        else:
            raise RuntimeError(f"{step.kind.value}: {failure.reason}: {failure.message}")
        instance_id = wanted.claim.instance_id
        logger().warning("wish not met", instance=instance_id, reason=failure.reason)

    async def _act(self, step: Step) -> None:
        identity = Identity(self._cloud_id, *step.wanted.claim)
        image: ImageFile | None = None
        if step.kind is StepKind.PREPARE:
            image = await self._fetch(step.wanted)
            if image is None:
                return
        async with self._steps:
            # Whoever waited for its turn would have it before the one who rests.
            if self._resting:
                raise RestingError
            await take_step(self._driver, step, identity=identity, image=image)
        self.counter.note_change()

    async def _fetch(self, wanted: Wanted) -> ImageFile | None:
        """The wish's image; None if something else is wanted before it has come."""
        image = wanted.spec.image
        assert image is not None, "a wish to be present names an image"
        path = self._images.at_hand(image)
        if path is not None:
            return ImageFile(path, image.kind, image.architecture)
        again = self._workers[wanted.claim.instance_id][1]
        async with self._images.join(image, self._read_blob, on_landed=again.set) as flight:
            while self.wishes.get(wanted.claim) == wanted:
                if flight.landed.done():
                    return ImageFile(flight.landed.result(), image.kind, image.architecture)
                # The look that follows this step makes up for the nudges that it takes.
                if await _wait(again, PROGRESS_S):
                    again.clear()
                else:
                    progress = f"fetching image {flight.percent} %"
                    self._say(Observation(wanted.claim, progress=progress))
        return None

    def _read_blob(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        return self._blobs.read_blob(digest, offset, incarnation=self.wishes.incarnation)

    def _observe(self, wanted: Sequence[Wanted], guests: Sequence[Guest]) -> None:
        for wish in wanted:
            observation = observation_of(wish, guests, self._past)
            if observation is not None:
                self._say(observation)

    def _trace(self, instance_id: str) -> Trace:
        """Of the call that made the newest wish, so that what is done for it is found by it."""
        wanted = self.wishes.of(instance_id)
        return wanted[-1].trace if wanted else UNTRACED

    def _say(self, observation: Observation) -> None:
        self.outbox.note(observation)
        self._spoke()

    async def _watch(self) -> None:
        while True:
            try:
                async for changed in self._driver.watch_guests():
                    if self.wishes.of(changed.instance_id):
                        self.nudge(changed.instance_id)
                    else:
                        self.counter.stir()
            except Exception as error:  # noqa: BLE001  # whatever it is, it is tried again
                logger().warning("hypervisor events lost", error=repr(error))
            await asyncio.sleep(RETRY_S_MAX)

    async def _look_slowly(self) -> None:
        while True:
            await asyncio.sleep(SLOW_LOOK_S * self._rng.uniform(0.8, 1.2))
            for instance_id in self.wishes.instance_ids():
                self.nudge(instance_id)


def _backoff_s(tries: int, rng: Random) -> float:
    return min(RETRY_S_MAX, RETRY_S * 2.0 ** min(tries, 10)) * rng.uniform(0.5, 1.0)


async def _wait(again: asyncio.Event, timeout_s: float) -> bool:
    """Whether `again` was set in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await again.wait()
    except TimeoutError:
        return False
