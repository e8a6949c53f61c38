"""The archive of a kernel image: a USTAR tar of exactly the regular files `kernel`, `initrd` and
`cmdline`.

Owns what may stand in it. Refuses links, directories, other names, extensions of the format, and
what is too large.
"""

from services.api.logic.image_verdict import Reader, Rejected, Sound, Verdict

BLOCK = 512
SIZES_MAX = {"kernel": 256 << 20, "initrd": 1 << 30, "cmdline": 4096}
PADDING_BYTES_MAX = 64 * 1024

_ZERO = bytes(BLOCK)


def inspect(read: Reader, file_bytes: int) -> Verdict:
    """Sound, or why not; such an image needs no disk."""
    found: set[str] = set()
    place = 0
    for _ in range(len(SIZES_MAX) + 1):
        block = read(place, BLOCK)
        if block == _ZERO:
            return _ended(read, place, file_bytes, found)
        entry = _entry(block)
        if isinstance(entry, Rejected):
            return entry
        name, size = entry
        if name in found:
            return Rejected(f"its archive holds {name} twice")
        found.add(name)
        content_at = place + BLOCK
        place = content_at + -(-size // BLOCK) * BLOCK
        if place > file_bytes:
            return Rejected("its archive is cut off")
        if name == "cmdline" and not _is_command_line(read(content_at, size)):
            return Rejected("its cmdline is not one line of printable ASCII")
    return Rejected("its archive holds more than kernel, initrd and cmdline")


def _ended(read: Reader, place: int, file_bytes: int, found: set[str]) -> Verdict:
    missing = sorted(SIZES_MAX.keys() - found)
    if missing:
        return Rejected(f"its archive lacks {' and '.join(missing)}")
    rest_bytes = file_bytes - place
    if rest_bytes > PADDING_BYTES_MAX:
        return Rejected("something follows the end of its archive")
    if read(place, rest_bytes).strip(b"\0"):
        return Rejected("something follows the end of its archive")
    return Sound(0)


def _entry(block: bytes) -> tuple[str, int] | Rejected:
    if len(block) < BLOCK:
        return Rejected("its archive is cut off")
    if block[257:262] != b"ustar":
        return Rejected("it was declared a kernel image, but is not a USTAR archive")
    if _octal(block[148:156]) != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        return Rejected("a checksum of its archive is wrong")
    name = block[:100].rstrip(b"\0").decode("ascii", "replace")
    if name not in SIZES_MAX or block[345:500].strip(b"\0"):
        return Rejected("its archive holds something else than kernel, initrd and cmdline")
    if block[156:157] not in (b"0", b"\0"):
        return Rejected(f"{name} in its archive is not a regular file")
    size = _octal(block[124:136])
    if size is None or not 0 < size <= SIZES_MAX[name]:
        return Rejected(f"{name} in its archive must have 1 to {SIZES_MAX[name]} bytes")
    return name, size


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    if not digits or digits.translate(None, b"01234567"):
        return None
    return int(digits, 8)


def _is_command_line(content: bytes) -> bool:
    line = content.removesuffix(b"\n")
    return all(32 <= byte < 127 for byte in line)
