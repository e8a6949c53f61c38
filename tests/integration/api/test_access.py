"""Who may call what, and what is refused before anything happens."""

import time
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from stead.v1 import (
    instance_pb2,
    key_pair_pb2,
    project_pb2,
)

from services.api.edges.authentication import OPEN, ROLES
from services.api.edges.servers import SERVICES
from services.api.logic.caller import Role
from tests.integration.api.cloud import ApiCloud, User, new_id, refusal
from tests.integration.api.test_api_service import created
from tests.integration.api.uploads import imported
from tests.integration.api.wishes import public_key

REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def raw_call(cloud: ApiCloud, method: str, metadata: Any = (), streaming: bool = False) -> Any:
    """A call of any method with an empty request."""
    if streaming:
        return cloud.channel.stream_unary(method)(iter([b""]), metadata=metadata, timeout=60)
    return cloud.channel.unary_stream(method)(b"", metadata=metadata, timeout=60)


async def reflected(cloud: ApiCloud, user: User, service: str, **asked: Any) -> Any:
    call = cloud.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(metadata=user.metadata, timeout=60)
    await call.write(reflection_pb2.ServerReflectionRequest(**asked))
    await call.done_writing()
    answer = await call.read()
    assert answer is not grpc.aio.EOF, await call.code()
    return answer


async def all_methods(cloud: ApiCloud) -> set[str]:
    """Every method of every service, as reflection tells it."""
    user = cloud.user("looker", "reader")
    listed = await reflected(cloud, user, REFLECTIONS[0], list_services="")
    methods = set()
    for service in listed.list_services_response.service:
        if service.name == REFLECTIONS[0]:
            methods.add(f"/{service.name}/ServerReflectionInfo")
            continue
        answer = await reflected(cloud, user, REFLECTIONS[1], file_containing_symbol=service.name)
        for raw in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(raw)
            for found in file.service:
                if f"{file.package}.{found.name}" == service.name:
                    methods |= {f"/{service.name}/{method.name}" for method in found.method}
    return methods


async def test_every_method_stands_in_the_table_and_needs_a_token(cloud: ApiCloud) -> None:
    methods = await all_methods(cloud)
    assert methods >= set(ROLES)
    assert methods - OPEN == set(ROLES)
    for method in methods - OPEN:
        refused = await refusal(raw_call(cloud, method))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "TOKEN_MISSING",
        ), method


async def test_an_expired_token_opens_no_method(cloud: ApiCloud) -> None:
    expired = cloud.signer.token("looker", "admin", cloud_admin=True, exp=int(time.time()) - 1)
    metadata = (("authorization", f"Bearer {expired}"),)
    for method in await all_methods(cloud) - OPEN:
        refused = await refusal(raw_call(cloud, method, metadata))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "TOKEN_EXPIRED",
        ), method


# What a call of another project is about; of these methods the caller's own project is the subject.
OWN = {
    "CreateInstance", "BatchCreateInstances", "ListInstances", "WatchInstances", "ListOperations",
    "WatchOperations", "GetFlavor", "ListFlavors", "ImportImage", "ListImages", "CreateKeyPair",
    "ListKeyPairs", "ListProjects",
}  # fmt: skip


async def test_what_is_of_another_project_is_refused_as_what_is_not_there(cloud: ApiCloud) -> None:
    """For every method that names a thing: the answer for another's is that for one that never was,
    in code, reason and words.
    """
    owner = cloud.user("owners", "member")
    created_ = await created(cloud, owner)
    image = await imported(owner)
    key = key_pair_pb2.CreateKeyPairRequest(
        request_id=new_id(), name=f"k-{new_id()}", public_key=public_key()
    )
    pair = (await owner.CreateKeyPair(key)).key_pair
    project = project_pb2.CreateProjectRequest(request_id=new_id(), id=f"p-{new_id()[:13]}")
    known = (await cloud.admin().CreateProject(project)).project.id
    of_kind = {
        "InstanceService": created_.instance.id,
        "OperationService": created_.operation.id,
        "ImageService": image.id,
        "KeyPairService": pair.id,
        "ProjectService": known,
        "QuotaService": known,
    }
    seen = set()
    for method in sorted(await all_methods(cloud) - OPEN):
        package, name = method.rsplit("/", 1)
        service = package.rsplit(".", 1)[1]
        if ROLES[method] is Role.CLOUD_ADMIN or name in OWN or "reflection" in package:
            continue
        seen.add(name)
        other = cloud.user("others", "admin")
        nothing = "p-nothing" if known == of_kind[service] else new_id()
        answers = [
            await refusal(named_call(other, package[1:], name, row_id))
            for row_id in (of_kind[service], nothing)
        ]
        told = [(a.code, a.reason, a.message.replace(of_kind[service], nothing)) for a in answers]
        assert told[0] == told[1], method
        assert answers[0].code is grpc.StatusCode.NOT_FOUND, method
    assert len(seen) >= 16


def named_call(user: User, service: str, name: str, row_id: str) -> Any:
    """A call that is about one thing."""
    method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    request = GetMessageClass(method.input_type)()
    about = request.opening if name == "OpenConsole" else request
    setattr(about, "project_id" if name == "GetQuota" else "id", row_id)
    if "request_id" in method.input_type.fields_by_name:
        request.request_id = new_id()
    if "update_mask" in method.input_type.fields_by_name:
        request.update_mask.paths.append("*")
        request.name = "x"
    return getattr(user, name)(iter([request]) if method.client_streaming else request)


async def test_every_method_needs_its_role(cloud: ApiCloud) -> None:
    nobody = cloud.user("roles")
    callers = {
        Role.READER: nobody,
        Role.MEMBER: cloud.user("roles", "reader"),
        Role.CLOUD_ADMIN: cloud.user("roles", "reader", "member", "admin"),
    }
    for method, needed in ROLES.items():
        metadata = callers[needed].metadata
        refused = await refusal(raw_call(cloud, method, metadata))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ROLE_MISSING",
        ), method


UNKNOWN = (
    "/stead.v1.InstanceService/RebuildTheWorld",
    "/stead.v1.NoService/GetInstance",
    "/stead.v1.InstanceService/getinstance",
    "/stead.internal.v1.ComputeIngressService/FetchBlob",
    "/stead.internal.v1.ConductorService/Accept",
)


@pytest.mark.parametrize("method", UNKNOWN)
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_method_that_is_not_there_needs_a_token_like_any_other(
    cloud: ApiCloud, method: str, streaming: bool
) -> None:
    for metadata, reason in (
        ((), "TOKEN_MISSING"),
        ((("authorization", "Bearer x"),), "TOKEN_INVALID"),
        (cloud.user("looker", "reader", exp=1).metadata, "TOKEN_EXPIRED"),
    ):
        refused = await refusal(raw_call(cloud, method, metadata, streaming))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    refused = await refusal(raw_call(cloud, method, cloud.admin().metadata, streaming))
    assert refused.code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_role_is_checked_before_the_request(cloud: ApiCloud) -> None:
    bad = instance_pb2.CreateInstanceRequest(name="\x00")
    refused = await refusal(cloud.user("readers", "reader").CreateInstance(bad))
    assert refused.reason == "ROLE_MISSING"


async def test_health_needs_no_token_and_knows_each_service(cloud: ApiCloud) -> None:
    stub = health_pb2_grpc.HealthStub(cloud.channel)
    for name in ("", "stead.api", *SERVICES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", REFLECTIONS)
async def test_reflection_shows_the_contract(cloud: ApiCloud, service: str) -> None:
    user = cloud.user("looker", "reader")
    answer = await reflected(cloud, user, service, file_containing_symbol="stead.v1.Instance")
    assert answer.file_descriptor_response.file_descriptor_proto


def tokens_that_do_not_count(cloud: ApiCloud) -> dict[str, tuple[str, str]]:
    signer, other = cloud.signer, Ed25519PrivateKey.generate()
    claims = signer.claims("p", "admin")
    good = signer.token("p", "admin")
    pem = signer.public_pem()
    secret = serialization.load_pem_public_key(pem).public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    head, body, signature = good.split(".")

    def signed(**changed: Any) -> str:
        return jwt.encode({**claims, **changed}, signer.key, algorithm="EdDSA")

    now = int(time.time())
    endless = {name: claim for name, claim in claims.items() if name != "exp"}
    return {
        "of another key": (jwt.encode(claims, other, algorithm="EdDSA"), "TOKEN_INVALID"),
        "unsigned": (jwt.encode(claims, None, algorithm="none"), "TOKEN_INVALID"),
        "signed with the public key as a secret": (
            jwt.encode(claims, secret.ljust(32, b"0"), algorithm="HS256"),
            "TOKEN_INVALID",
        ),
        "of another cloud": (signed(aud="ffffffffffff"), "TOKEN_INVALID"),
        "of several clouds": (signed(aud=["ffffffffffff"]), "TOKEN_INVALID"),
        "of another issuer": (signed(iss="other"), "TOKEN_INVALID"),
        "expired": (signed(exp=now - 1), "TOKEN_EXPIRED"),
        "not yet valid": (signed(nbf=now + 600), "TOKEN_INVALID"),
        "without an end": (jwt.encode(endless, signer.key, algorithm="EdDSA"), "TOKEN_INVALID"),
        "with an odd end": (signed(exp=True), "TOKEN_INVALID"),
        "with an odd project": (signed(project="../x"), "TOKEN_INVALID"),
        "without a project": (signed(project=None), "TOKEN_INVALID"),
        "with odd roles": (signed(roles="admin"), "TOKEN_INVALID"),
        "with an odd subject": (signed(sub="a\nb"), "TOKEN_INVALID"),
        "with a word for cloud admin": (signed(cloud_admin="yes"), "TOKEN_INVALID"),
        "with a changed body": (f"{head}.{body[:-2]}AA.{signature}", "TOKEN_INVALID"),
        "too long": ("a" * 7000, "TOKEN_INVALID"),
        "no token at all": ("x", "TOKEN_INVALID"),
    }  # fmt: skip


async def test_tokens_that_do_not_count_are_refused(cloud: ApiCloud) -> None:
    for name, (token, reason) in tokens_that_do_not_count(cloud).items():
        user = User(cloud.channel, token)
        refused = await refusal(user.ListInstances(instance_pb2.ListInstancesRequest()))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason), name


async def test_identity_comes_from_the_token_alone(cloud: ApiCloud) -> None:
    user = cloud.user("plain", "reader")
    user.metadata += (
        ("x-roles", "admin"),
        ("x-project-id", "admin"),
        ("x-cloud-admin", "true"),
        ("roles-bin", b"admin"),
    )
    refused = await refusal(
        user.ListInstances(instance_pb2.ListInstancesRequest(all_projects=True))
    )
    assert refused.reason == "ROLE_MISSING"
    user.metadata = (*user.metadata, cloud.admin().metadata[0])
    refused = await refusal(user.ListInstances(instance_pb2.ListInstancesRequest()))
    assert refused.reason == "TOKEN_INVALID"
