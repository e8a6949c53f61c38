"""What watchers are told: all of it, in order, once, and of their own project alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from services.domain.kinds import ResourceKind
from tests.checkers.history import Mark, Seen, Sign
from tests.checkers.past import Change, Past, Stream

KINDS = {kind.name.lower(): kind for kind in ResourceKind}


OF_ADMINS = ("EvacuateInstance",)


def whole_streams(past: Past) -> Iterator[str]:
    """I12: from its start each stream has every version in its scope, once, in the order of their
    revisions, up to the last revision that it was told; and nothing that is not in the log.
    """
    log = {kind: _log_of(past, kind) for kind in (ResourceKind.INSTANCE,)}
    for stream in past.streams:
        for kind, changes in log.items():
            if stream.scope is not None:
                yield from _Reader(stream, kind, _visible(stream, changes)).violations()


def _log_of(past: Past, kind: ResourceKind) -> list[Change]:
    return [change for change in past.changes if change.kind is kind]


def _visible(stream: Stream, changes: list[Change]) -> list[Change]:
    if stream.scope:
        return [change for change in changes if change.project_id == stream.scope]
    return changes


class _Reader:
    """Goes through one stream beside the log of what it may show."""

    def __init__(self, stream: Stream, kind: ResourceKind, log: list[Change]) -> None:
        self._stream = stream
        self._kind = kind
        self._log = log
        self._revisions = [change.revision for change in log]
        self._by_revision = {change.revision: change for change in log}
        # Below this the log is compacted, and cannot be compared.
        self._from = log[0].revision if log else 0
        self._place = 0
        self._complete = False

    def violations(self) -> Iterator[str]:
        """In the words of the stream."""
        for one in self._stream.told:
            if isinstance(one, Mark):
                yield from self._mark(one)
            elif KINDS.get(one.kind, self._kind) is self._kind and not one.snapshot:
                if not self._complete:
                    yield f"{self._name}: a change at {one.revision} before its snapshot is whole"
                yield from self._change(self._place, one)
                self._place = max(self._place, one.revision)

    def _mark(self, mark: Mark) -> Iterator[str]:
        if mark.sign is Sign.DONE:
            self._place, self._complete = mark.revision, True
        elif mark.sign is Sign.BOOKMARK:
            if mark.revision < self._place:
                yield f"{self._name}: a bookmark at {mark.revision} behind {self._place}"
            yield from self._missed(self._place, mark.revision + 1)
            self._place = max(self._place, mark.revision)
        elif mark.sign in (Sign.COMPACTED, Sign.BEGUN):
            if mark.sign is Sign.BEGUN and self._complete:
                yield f"{self._name}: begins anew at {self._place} without having been told so"
            self._complete = False

    @property
    def _name(self) -> str:
        return self._stream.watcher

    def _change(self, place: int, seen: Seen) -> Iterator[str]:
        if seen.revision <= place:
            yield f"{self._name}: revision {seen.revision} comes after {place}"
            return
        yield from self._missed(place, seen.revision)
        told = self._by_revision.get(seen.revision)
        if told is None:
            if seen.revision >= self._from:
                yield f"{self._name}: revision {seen.revision} of {seen.id} is invented"
        elif (told.id, told.version) != (seen.id, seen.version):
            yield f"{self._name}: {seen.revision} is {told.id} v{told.version}, not v{seen.version}"

    def _missed(self, after: int, before: int) -> Iterator[str]:
        first = bisect_right(self._revisions, after)
        while first < len(self._revisions) and self._revisions[first] < before:
            yield f"{self._name}: revision {self._revisions[first]} is missing"
            first += 1


def same_state(past: Past) -> Iterator[str]:
    """I13: the snapshot and the changes after it are the state: a stream's picture is what the log
    says as of the last revision that it was told.
    """
    if not past.changes or past.changes[0].revision != 1:
        return
    for stream in past.streams:
        if stream.scope is not None:
            yield from _pictures(past, stream)


def _pictures(past: Past, stream: Stream) -> Iterator[str]:
    picture: dict[str, int] = {}
    at, complete = 0, False
    for one in stream.told:
        if isinstance(one, Seen):
            if KINDS.get(one.kind, ResourceKind.INSTANCE) is ResourceKind.INSTANCE:
                picture[one.id] = one.version
                if one.deleted:
                    del picture[one.id]
                at = at if one.snapshot else one.revision
        elif one.sign in (Sign.BEGUN, Sign.COMPACTED):
            picture, complete = {}, False
        elif one.sign in (Sign.DONE, Sign.BOOKMARK):
            complete = complete or one.sign is Sign.DONE
            at = max(at, one.revision)
            if one.sign is Sign.DONE:
                yield from _compared(past, stream, picture, one.revision)
    if complete:
        yield from _compared(past, stream, picture, at)


def _compared(past: Past, stream: Stream, picture: dict[str, int], at: int) -> Iterator[str]:
    expected: dict[str, int] = {}
    for change in past.changes:
        if change.revision > at:
            break
        if change.kind is not ResourceKind.INSTANCE:
            continue
        if stream.scope and change.project_id != stream.scope:
            continue
        expected[change.id] = change.version
        if change.deleted:
            del expected[change.id]
    for id_ in sorted(picture.keys() | expected.keys()):
        if picture.get(id_) != expected.get(id_):
            versions = f"{picture.get(id_)}, not {expected.get(id_)}"
            yield f"{stream.watcher}: at {at} it has {id_} in version {versions}"


def own_project(past: Past) -> Iterator[str]:
    """I24: nobody is told of another project's things, in a watch or an answer, but the admins of
    the cloud of what they evacuate.
    """
    for stream in past.streams:
        for one in stream.told:
            if isinstance(one, Seen) and stream.scope and one.project_id != stream.scope:
                yield f"{stream.watcher} of {stream.scope} sees {one.id} of {one.project_id}"
    for call in past.calls():
        if call.method in OF_ADMINS:
            continue
        row = past.instances.get(call.resource_id)
        if row is not None and call.operation_id and str(row["project_id"]) != call.project_id:
            yield f"{call.client} of {call.project_id} is answered with {row['id']}"
