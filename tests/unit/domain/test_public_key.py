"""Which lines are public keys, and that nothing else becomes one."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.public_key import ALGORITHMS, NotAKey, PublicKey, public_key_from

ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIOih1PlrWfSsACUZuhD9P9l043ucltLHPEEjTS9VT9BR"
ECDSA = (
    "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBNecPERRJSrBIYJ9WS3bAvk5w7+iSQydRgB1ix2N"
    "KIURpRI2kgPPF37QkKjCaKlU2Ywc+YsfR+rUIjA+r15+9aA="
)


def line_of(algorithm: str, rest: bytes, comment: str = "", *, inner: str | None = None) -> str:
    """A key line; `inner` is the algorithm inside the key where it is another one."""
    name = (algorithm if inner is None else inner).encode()
    content = len(name).to_bytes(4, "big") + name + rest
    return " ".join(filter(None, (algorithm, base64.b64encode(content).decode(), comment)))


@pytest.mark.parametrize(
    ("line", "algorithm", "fingerprint"),
    [
        (
            f"ssh-ed25519 {ED25519} me@here",
            "ssh-ed25519",
            "SHA256:w+mztDMHvmAR9m3ASwrBZwUooqM/Hayh/2PeuGuDCic",
        ),
        (
            f"ecdsa-sha2-nistp256 {ECDSA}",
            "ecdsa-sha2-nistp256",
            "SHA256:8uwRvhF1eecKSoVQVVNVRN4+s0YPC9cK7vI6NSW37i0",
        ),
    ],
)
def test_a_fingerprint_is_what_ssh_keygen_shows(
    line: str, algorithm: str, fingerprint: str
) -> None:
    assert public_key_from(line) == PublicKey(algorithm, fingerprint)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "an algorithm and the key"),
        ("ssh-ed25519", "an algorithm and the key"),
        (f"ssh-dss {ED25519}", "not known"),
        (f"ssh-ed25519 {ED25519}\n", "one line"),
        (f"ssh-ed25519 {ED25519} a\nssh-ed25519 {ED25519}", "one line"),
        ("ssh-ed25519 not-base64!", "not in base64"),
        ("ssh-ed25519 ключ", "not in base64"),
        (f"ssh-rsa {ED25519}", "not of the algorithm"),
        (line_of("ssh-ed25519", b""), "not of the algorithm"),
        (line_of("ssh-ed25519", b"x", inner="ssh-rsa"), "not of the algorithm"),
        ("ssh-ed25519 AAAA", "not of the algorithm"),
        (f"ssh-ed25519 {base64.b64encode(bytes([255] * 8)).decode()}", "not of the algorithm"),
        (f"ssh-ed25519 {ED25519} {'c' * 4096}", "one line"),
    ],
)
def test_what_is_no_public_key_is_told_why(line: str, says: str) -> None:
    found = public_key_from(line)
    assert isinstance(found, NotAKey)
    assert says in found.message


COMMENTS = st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=40).map(
    lambda text: "".join(c for c in text if c.isprintable())
)


@given(st.sampled_from(sorted(ALGORITHMS)), st.binary(min_size=1, max_size=600), COMMENTS)
def test_every_well_formed_key_is_taken_whatever_its_comment(
    algorithm: str, rest: bytes, comment: str
) -> None:
    line = line_of(algorithm, rest, comment)
    content = base64.b64decode(line.split()[1])
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    assert public_key_from(line) == PublicKey(algorithm, f"SHA256:{digest}")


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    """Whatever comes is a key of a known algorithm or a reason."""
    for line in (text, f"ssh-ed25519 {text}", f"ssh-rsa {ED25519}{text}"):
        found = public_key_from(line)
        if isinstance(found, PublicKey):
            assert found.algorithm in ALGORITHMS
            assert "\n" not in line
        else:
            assert found.message


@given(st.sampled_from(sorted(ALGORITHMS)), st.sampled_from(sorted(ALGORITHMS)), st.binary())
def test_a_key_of_another_algorithm_is_never_taken(outer: str, inner: str, rest: bytes) -> None:
    if outer != inner:
        assert isinstance(public_key_from(line_of(outer, rest, inner=inner)), NotAKey)
