"""Public keys in OpenSSH's one-line form: `ALGORITHM BASE64 COMMENT`.

Owns which lines are keys, and their fingerprints. Looks only at the shape: the numbers inside a key
are not checked. Source: RFC 4253 section 6.6 (the key's bytes begin with its algorithm as a string
of four bytes of length and that many characters), sshd(8) for the line.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

LINE_MAX = 4096
LENGTH_BYTES = 4

ALGORITHMS = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key: its algorithm, and its fingerprint as `ssh-keygen -l` shows it."""

    algorithm: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class NotAKey:
    """Why a line is no public key."""

    message: str


def public_key_from(line: str) -> PublicKey | NotAKey:
    """The key in one line of at most 4,096 characters, or why there is none."""
    if len(line) > LINE_MAX or not line.isprintable():
        return NotAKey(f"a public key is one line of at most {LINE_MAX} printable characters")
    words = line.split(maxsplit=2)
    if len(words) < 2:
        return NotAKey("a public key is an algorithm and the key in base64, then a comment")
    algorithm, encoded = words[0], words[1]
    if algorithm not in ALGORITHMS:
        return NotAKey(f"the algorithm {algorithm[:64]!r} is not known")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return NotAKey("the key is not in base64")
    if _first_string(content) != algorithm.encode():
        return NotAKey(f"the key inside is not of the algorithm {algorithm}")
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return PublicKey(algorithm, f"SHA256:{digest}")


def _first_string(content: bytes) -> bytes:
    """The string that the key begins with; empty where nothing follows it."""
    length = int.from_bytes(content[:LENGTH_BYTES], "big")
    end = LENGTH_BYTES + length
    return content[LENGTH_BYTES:end] if len(content) > end else b""
