"""What a token says, and for how long."""

import re
from dataclasses import dataclass
from typing import Any

from services.domain.errors import Invalid

ISSUER = "stead"
ROLES = ("reader", "member", "admin")
ADMIN_LIFE_S = 365 * 86400
ADMIN_RENEW_S = 30 * 86400
LIFE_S_MAX = 3650 * 86400
_PROJECT = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_LIFE = re.compile(r"^([1-9][0-9]{0,8})([smhd])$")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def life_s(text: str) -> int:
    """Seconds in `90s`, `15m`, `1h` or `30d`. Raises Invalid."""
    matched = _LIFE.match(text)
    seconds = int(matched[1]) * _UNITS_S[matched[2]] if matched else 0
    if not 0 < seconds <= LIFE_S_MAX:
        raise Invalid(
            "INVALID_FIELD",
            f'"{text}" is no time like 90s, 15m, 1h or 30d, at most 3650d',
            field="--for",
        )
    return seconds


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who carries a token, and what it lets them do."""

    subject: str
    project: str
    role: str
    cloud_admin: bool


ADMIN = Bearer(subject="admin", project="admin", role="admin", cloud_admin=True)


def claims_of(bearer: Bearer, *, cloud_id: str, window_s: tuple[int, int]) -> dict[str, Any]:
    """The claims of a token that holds from `window_s[0]` to `window_s[1]`, Unix seconds.

    Raises Invalid.
    """
    if not _PROJECT.match(bearer.project):
        raise Invalid(
            "INVALID_FIELD",
            "a project is 1 to 63 of a-z, 0-9 and dash, no dash at the ends",
            field="--project",
        )
    if bearer.role not in ROLES:
        raise Invalid("INVALID_FIELD", f"a role is one of {', '.join(ROLES)}", field="--role")
    if not 0 < len(bearer.subject) <= 255 or not bearer.subject.isprintable():
        raise Invalid(
            "INVALID_FIELD", "a subject is 1 to 255 printable characters", field="--subject"
        )
    begins, ends = window_s
    return {
        "iss": ISSUER,
        "aud": cloud_id,
        "sub": bearer.subject,
        "project": bearer.project,
        "roles": [bearer.role],
        "cloud_admin": bearer.cloud_admin,
        "iat": begins,
        "nbf": begins,
        "exp": ends,
    }


def is_worn(claims: dict[str, Any], *, cloud_id: str, now_s: int) -> bool:
    """Whether an admin's token must be made anew: of another cloud, or near its end."""
    return claims.get("aud") != cloud_id or int(claims.get("exp", 0)) - now_s < ADMIN_RENEW_S
