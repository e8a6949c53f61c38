"""Where the home is, which cloud is meant, which token to show: the command's own environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.cli.logic.home import Home


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What one call of the command stands in. An empty endpoint stands for the home's own cloud."""

    home: Home
    endpoint: str
    token_file: Path
    environment: Mapping[str, str]


def surroundings(environment: Mapping[str, str], *, folder: Path) -> Surroundings:
    """STEAD_HOME, STEAD_ENDPOINT and STEAD_TOKEN_FILE with their defaults; relative paths from
    `folder`.
    """
    default = Path(environment.get("HOME", "/")) / ".local" / "share" / "stead"
    home = Home(folder / (environment.get("STEAD_HOME") or default))
    return Surroundings(
        home,
        environment.get("STEAD_ENDPOINT", ""),
        folder / (environment.get("STEAD_TOKEN_FILE") or home.token_file),
        environment,
    )
