"""Whatever bytes come, api answers with a reason, keeps running, and changes nothing.

Method: for every method requests made from its own descriptor with odd values in every field, and
the same bytes spoilt. A failure prints its seed.
"""

import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from services.api.edges.servers import SERVICES
from tests.integration.api.cloud import ApiCloud, Refusal, new_id

SEED = 20261122
REQUESTS = 60
NEVER = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
TEXTS = (
    "", "x", "\x00", "a\nb", "\u202e", "../../etc/passwd", "%s%n", '" OR 1=1 --', "ä" * 400,
    "z" * 5000, "00000000-0000-4000-8000-000000000000", 'name = "x"', 'state = "ACTIVE"',
)  # fmt: skip
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31))


def methods() -> Iterator[MethodDescriptor]:
    for name in SERVICES:
        yield from descriptor_pool.Default().FindServiceByName(name).methods


def odd(descriptor: Any, chance: random.Random, depth: int = 0) -> Any:
    """A message with odd values in some of its fields."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if chance.random() < 0.4:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[chance.choice(TEXTS)] = chance.choice(TEXTS)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = odd(field.message_type, chance, depth + 1) if depth < 3 else None
            if inner is not None and field.is_repeated:
                getattr(message, field.name).append(inner)
            elif inner is not None:
                getattr(message, field.name).CopyFrom(inner)
        elif field.is_repeated:
            getattr(message, field.name).extend(odd_value(field, chance) for _ in range(3))
        else:
            setattr(message, field.name, odd_value(field, chance))
    return message


def odd_value(field: Any, chance: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return new_id() if chance.random() < 0.3 else chance.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.randbytes(chance.choice((0, 1, 9000)))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    return chance.choice(NUMBERS)


def spoilt(content: bytes, chance: random.Random) -> bytes:
    if not content or chance.random() < 0.5:
        return content
    place = chance.randrange(len(content))
    return content[:place] + chance.randbytes(chance.randrange(4)) + content[place + 1 :]


async def answered(cloud: ApiCloud, method: MethodDescriptor, requests: int) -> None:
    """Makes odd requests of one method and checks each answer."""
    chance = random.Random(f"{SEED} {method.name}")
    user = cloud.user("bytes-any", "admin", cloud_admin=method.name != "WatchInstances")
    path = f"/{method.containing_service.full_name}/{method.name}"
    for number in range(requests):
        content = spoilt(odd(method.input_type, chance).SerializeToString(), chance)
        if method.client_streaming:
            # The library's client breaks where it writes while the server ends a two-way stream.
            pieces = [content] if method.server_streaming else [content, content]
            call = cloud.channel.stream_stream(path)(
                iter(pieces), metadata=user.metadata, timeout=60
            )
        else:
            call = cloud.channel.unary_stream(path)(content, metadata=user.metadata, timeout=60)
        try:
            await call.read()
            call.cancel()
        except grpc.aio.AioRpcError as error:
            told = Refusal(error)
            assert told.code not in NEVER, (SEED, number, content, told.message)
            assert told.reason, (SEED, number, content, told.message)
            assert told.bytes < 4096, (SEED, number, content)


@pytest.mark.parametrize("method", list(methods()), ids=lambda m: m.name)
async def test_any_request_is_answered_with_a_reason(
    cloud: ApiCloud, method: MethodDescriptor
) -> None:
    await answered(cloud, method, REQUESTS)
