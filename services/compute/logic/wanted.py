"""What is wanted of one host, and the rule by which views and commands change it.

    view at R       takes the place of all that is not newer than R, also of what it does not name
    command at r    counts only under the live incarnation, above R, and above what is known of
                    its claim

Revisions are one total order, so the newest wish of a claim wins whatever the roads do to
messages: late, twice, out of order. Source: MECHANICS D2. Knowledge is kept per claim, not per
instance: one instance can have a claim that leaves and one that comes on the same host, and the
word about the first must not be lost behind the second. Does not know guests.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from services.compute.logic.guest import Claim
from services.domain.instance import Power
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources
from services.domain.trace import UNTRACED, Trace

ENDED_MAX = 1024


@dataclass(frozen=True, slots=True)
class Image:
    """What a guest starts from. `digest` is lower-case hexadecimal SHA-256."""

    digest: str
    size_bytes: int
    kind: ImageKind
    architecture: Architecture


@dataclass(frozen=True, slots=True)
class Spec:
    """What shall be: whether the guest exists, how it is (RUNNING, OFF, PAUSED or SUSPENDED), and
    of what it is made.

    `image` is None only where nothing shall be present. `boot` counts the wanted boots, from 1;
    `grace_s` is how long the guest may take to go down by itself, 0 for at once.
    """

    present: bool
    power: Power
    boot: int
    project_id: str
    name: str
    resources: Resources
    image: Image | None
    ssh_public_keys: tuple[str, ...]
    user_data: bytes
    grace_s: int = 0

    @property
    def run(self) -> bool:
        """Whether the guest shall execute."""
        return self.power is Power.RUNNING


@dataclass(frozen=True, slots=True)
class Wanted:
    """One wish: a record, never a verb. `revision` is the commit that made it, `trace` the call.

    `built`: the guest has been made under this claim before, whether this agent knows it or not.
    `leaving`: it is to be off and kept as it is, the spec does not count; of one that is
    `unclaimed` besides, nothing is said.
    """

    claim: Claim
    generation: int
    revision: int
    spec: Spec
    trace: Trace = UNTRACED
    built: bool = False
    leaving: bool = False
    unclaimed: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """All the claims of one host as of `revision`, read in one snapshot."""

    cloud_id: str
    host_id: str
    incarnation: int
    revision: int
    wanted: tuple[Wanted, ...]


class Wishes:
    """What this host knows to be wanted of it, under one incarnation at a time (0: none yet)."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.known_revision = 0
        self._view_revision = 0
        self._wanted: dict[str, dict[int, Wanted]] = {}
        # Claims of which nothing is left, and the newest wish that was known of each: a late
        # command must not bring one back before a view is newer than it.
        self._ended: dict[Claim, int] = {}

    @property
    def crowded(self) -> bool:
        """Whether so many ended claims are remembered that a new view is worth its price."""
        return len(self._ended) > ENDED_MAX

    def take_view(self, view: View) -> set[str]:
        """Takes a view; gives the ids of the instances of which something is wanted now."""
        # The host's own word is in no later view: it holds until the guest is claimed, or is off.
        told = {w.claim for w in view.wanted}
        newer = [
            w
            for w in self._all()
            if (w.claim not in told if w.unclaimed else w.revision > view.revision)
        ]
        self._ended = {c: r for c, r in self._ended.items() if r > view.revision}
        self._wanted = {}
        for wanted in (*view.wanted, *newer):
            if wanted.revision > self._revision_of(wanted.claim):
                self._put(wanted)
        self.incarnation = view.incarnation
        self._view_revision = view.revision
        self.known_revision = max(self.known_revision, view.revision)
        return set(self._wanted)

    def take_command(self, incarnation: int, batch: Iterable[Wanted]) -> set[str]:
        """Takes the wishes that count; gives the ids of the instances of which something else is
        wanted now.
        """
        if self.incarnation == 0 or incarnation != self.incarnation:
            return set()
        changed: set[str] = set()
        for wanted in batch:
            self.known_revision = max(self.known_revision, wanted.revision)
            if wanted.revision > max(self._view_revision, self._revision_of(wanted.claim)):
                self._ended.pop(wanted.claim, None)
                self._put(wanted)
                changed.add(wanted.claim.instance_id)
        return changed

    def of(self, instance_id: str) -> tuple[Wanted, ...]:
        """The wishes about one instance, by ascending epoch; one per claim."""
        by_epoch = self._wanted.get(instance_id, {})
        epochs = sorted(by_epoch) if len(by_epoch) > 1 else by_epoch
        return tuple([by_epoch[epoch] for epoch in epochs])

    def get(self, claim: Claim) -> Wanted | None:
        """The wish about one claim, None if there is none or it has ended."""
        return self._wanted.get(claim.instance_id, {}).get(claim.epoch)

    def instance_ids(self) -> list[str]:
        """The instances of which something is wanted."""
        return list(self._wanted)

    def claims(self) -> list[Claim]:
        """The claims of which something was wanted, also those that have ended since."""
        return [*(w.claim for w in self._all()), *self._ended]

    def end(self, claim: Claim) -> None:
        """Takes note that the conductor knows that nothing of the claim is left."""
        by_epoch = self._wanted.get(claim.instance_id, {})
        wanted = by_epoch.pop(claim.epoch, None)
        if wanted is None:
            return
        self._ended[claim] = wanted.revision
        if not by_epoch:
            del self._wanted[claim.instance_id]

    def _all(self) -> list[Wanted]:
        return [w for by_epoch in self._wanted.values() for w in by_epoch.values()]

    def _revision_of(self, claim: Claim) -> int:
        wanted = self.get(claim)
        return max(wanted.revision if wanted else 0, self._ended.get(claim, 0))

    def _put(self, wanted: Wanted) -> None:
        self._wanted.setdefault(wanted.claim.instance_id, {})[wanted.claim.epoch] = wanted
