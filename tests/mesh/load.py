"""Constant load through a proxy: creates, reads and deletes, each sent once by the client itself,
so that a failed one is seen.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import grpc
from stead.v1 import instance_pb2

from services.runtime.ids import new_id
from tests.clouds import Client
from tests.mesh.proxy import Proxy

AT_ONCE = 4
CALL_S = 60.0
# A client of its own would hide a failure by trying again.
ONCE = ("grpc.enable_retries", 0)


class Load:
    """Calls in threads from `with` to the end of it; `failed` is what went wrong."""

    def __init__(self, through: Proxy, token: str, *, flavor_id: str, image_id: str) -> None:
        self._through = through
        self._token = token
        self._size = {"flavor_id": flavor_id, "image_id": image_id}
        self._stopped = threading.Event()
        self._answered = threading.Condition()
        self.answers = 0
        self.failed: list[str] = []
        self.made: list[str] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(AT_ONCE)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(2 * CALL_S)

    def goes_on(self, calls: int = 100) -> None:
        """Returns when that many more calls were answered, or one failed."""
        with self._answered:
            enough = self.answers + calls
            came = self._answered.wait_for(
                lambda: self.answers >= enough or bool(self.failed), CALL_S
            )
        assert came, f"{self.answers} calls were answered, {enough} were expected"

    def _run(self) -> None:
        with self._through.channel(ONCE) as channel:
            client = Client(channel, self._token)
            while not self._stopped.is_set():
                try:
                    self._live(client)
                except grpc.RpcError as error:
                    with self._answered:
                        self.failed.append(f"{error.code()} {error.details()}")
                        self._answered.notify_all()

    def _live(self, client: Client) -> None:
        instances = client.instances
        wish = instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name=f"load-{new_id()}", **self._size
        )
        made = client.once(instances.CreateInstance, wish).instance
        self._count()
        client.once(instances.GetInstance, instance_pb2.GetInstanceRequest(id=made.id))
        self._count()
        client.once(
            instances.DeleteInstance,
            instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=made.id),
        )
        self._count()
        self.made.append(made.id)

    def _count(self) -> None:
        with self._answered:
            self.answers += 1
            self._answered.notify_all()
