"""Public keys as they stand in files."""

from services.domain.errors import Invalid


def keys_in(content: bytes, *, field: str = "--ssh-key") -> list[str]:
    """The keys of a .pub or authorized_keys file, a line each, comments left out. Raises Invalid
    for a private key, which must never leave its owner.
    """
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    kept = [line for line in lines if line and not line.startswith("#")]
    if any("PRIVATE KEY" in line for line in kept):
        raise Invalid("INVALID_FIELD", "this is a private key; give the .pub file", field=field)
    return kept


def only_key_in(content: bytes, *, field: str) -> str:
    """The one key of a file. Raises Invalid."""
    keys = keys_in(content, field=field)
    if len(keys) != 1:
        words = f"a key pair has one public key, this has {len(keys)}; give a .pub file"
        raise Invalid("PUBLIC_KEY_INVALID", words, field=field)
    return keys[0]
