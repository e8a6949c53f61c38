"""`stead token`: create."""

import json
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from services.cli.edges import keys
from services.cli.edges.commands.examples import taught
from services.cli.edges.commands.flags import OutputFlag, around, group
from services.cli.edges.terminal import Output, show_one
from services.cli.logic.claims import Bearer, claims_of, life_s
from services.domain.errors import WrongState

app = group("Tokens: who may do what, in which project, for how long.")


@app.callback()
def tokens() -> None:
    """Tokens: who may do what, in which project, for how long."""


@app.command("create", epilog=taught("token create"))
def create(
    project: Annotated[str, typer.Option(metavar="NAME", help="The project it is for.")],
    role: Annotated[str, typer.Option(metavar="ROLE", help="reader, member or admin.")] = "member",
    life: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long it holds: 90s, 15m, 1h, 30d.")
    ] = "1h",
    cloud_admin: Annotated[bool, typer.Option("--cloud-admin", help="May do all.")] = False,
    subject: Annotated[str, typer.Option(metavar="WORDS", help="Who will carry it.")] = "",
    output: OutputFlag = Output.TABLE,
) -> None:
    """Signs a token with this home's key and prints it."""
    home = around().home
    try:
        cloud_id = str(json.loads(home.cloud_file.read_text())["cloud_id"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError) as error:
        raise WrongState(
            "CLOUD_NOT_RUNNING",
            f"there is no cloud in {home.path}: tokens are made where its home is",
        ) from error
    now_s = int(time.time())
    bearer = Bearer(subject or f"{project}-{role}", project, role, cloud_admin)
    claims = claims_of(bearer, cloud_id=cloud_id, window_s=(now_s, now_s + life_s(life)))
    token = keys.sign(home, claims)
    if output is Output.JSON:
        expires = datetime.fromtimestamp(claims["exp"], UTC).isoformat().replace("+00:00", "Z")
        kept = {key: claims[key] for key in ("sub", "project", "roles", "cloud_admin")}
        show_one({"token": token, **kept, "expire_time": expires}, output)
    else:
        print(token)
