"""Keys and tokens of a home: Ed25519, JWT, files that only their owner reads."""

import hashlib
import secrets
import time
from typing import Any

from services.cli.edges.files import write_private
from services.cli.logic.claims import ADMIN, ADMIN_LIFE_S, claims_of, is_worn
from services.cli.logic.home import Home
from services.domain.errors import Unauthenticated

ALGORITHM = "EdDSA"


def make_keys(home: Home) -> None:
    """Makes the secrets that are not there yet; the public key is written each time."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not home.signing_key_file.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_private(home.signing_key_file, pem.decode())
    write_private(home.public_key_file, _public_pem(home).decode())
    if not home.page_key_file.exists():
        write_private(home.page_key_file, secrets.token_urlsafe(32))


def renew_admin_token(home: Home, cloud_id: str) -> None:
    """Writes `admin.token` unless the one there still holds for long and was signed by this key."""
    now_s = int(time.time())
    try:
        claims = _claims_in(home, home.token_file.read_text().strip(), cloud_id)
    except FileNotFoundError:
        claims = {}
    if not claims or is_worn(claims, cloud_id=cloud_id, now_s=now_s):
        window_s = (now_s, now_s + ADMIN_LIFE_S)
        fresh = claims_of(ADMIN, cloud_id=cloud_id, window_s=window_s)
        write_private(home.token_file, sign(home, fresh) + "\n")


def sign(home: Home, claims: dict[str, Any]) -> str:
    """The token. Raises Unauthenticated (SIGNING_KEY_MISSING) where this home has no key."""
    import jwt

    try:
        key = home.signing_key_file.read_text()
    except OSError as error:
        raise Unauthenticated(
            "SIGNING_KEY_MISSING",
            f"{home.signing_key_file} cannot be read: tokens are made where the cloud's home is",
        ) from error
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id(_public_pem(home))})


def key_id(public_pem: bytes) -> str:
    """The name of a key: the first half of the SHA-256 of its PEM text, in hexadecimal."""
    return hashlib.sha256(public_pem).hexdigest()[:32]


def _claims_in(home: Home, token: str, cloud_id: str) -> dict[str, Any]:
    import jwt

    try:
        return dict(
            jwt.decode(
                token, home.public_key_file.read_text(), algorithms=[ALGORITHM], audience=cloud_id
            )
        )
    except (jwt.InvalidTokenError, OSError):
        return {}


def _public_pem(home: Home) -> bytes:
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(home.signing_key_file.read_bytes(), password=None)
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
