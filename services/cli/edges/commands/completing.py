"""What the shell offers after Tab: names from the cloud, and nothing where it does not answer."""

import importlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from services.cli.logic.surroundings import surroundings

PATIENCE_S = 1.5
PAGE_SIZE = 500
OFFERS_MAX = 200
# Anything else would need the shell's own quotes.
_PLAIN = re.compile(r"[\w.@:+/-]+")
# What follows "List" in the contract, by the noun of its file; imported when somebody presses Tab.
_LISTS = {
    "instance": "Instances",
    "flavor": "Flavors",
    "image": "Images",
    "key_pair": "KeyPairs",
    "host": "Hosts",
    "project": "Projects",
    "operation": "Operations",
}


def _offers_of(noun: str, *, conditions: str = "") -> Callable[[str], list[str]]:
    def offers(incomplete: str) -> list[str]:
        found: list[str] = []
        for name in _names(noun, conditions):
            if name.startswith(incomplete):
                found.append(name)
            if len(found) == OFFERS_MAX:
                break
        return found

    return offers


def _names(noun: str, conditions: str) -> Iterator[str]:
    from services.cli.edges.api import connected
    from services.cli.logic.refusal import Refusal
    from services.domain.errors import CloudError

    here = surroundings(os.environ, folder=Path.cwd())
    try:
        with connected(here, patience_s=0) as api:
            for resource in _listed(api, noun, conditions):
                name = str(getattr(resource, "name", ""))
                yield name if _PLAIN.fullmatch(name) else str(resource.id)
    except (CloudError, Refusal, OSError):
        # A Tab is no question that could be answered with an error.
        return


def _listed(api: Any, noun: str, conditions: str) -> Iterator[Any]:
    messages = importlib.import_module(f"stead.v1.{noun}_pb2")
    stubs = importlib.import_module(f"stead.v1.{noun}_pb2_grpc")
    things = _LISTS[noun]
    stub = getattr(stubs, f"{things[:-1]}ServiceStub")(api.channel)
    request = getattr(messages, f"List{things}Request")(page_size=PAGE_SIZE)
    if conditions:
        request.filter = conditions
    until_s = time.monotonic() + PATIENCE_S
    while (left_s := until_s - time.monotonic()) > 0:
        answer = api.call(getattr(stub, f"List{things}"), request, timeout_s=left_s)
        yield from getattr(answer, f"{noun}s")
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


instances = _offers_of("instance")
flavors = _offers_of("flavor")
images = _offers_of("image")
key_pairs = _offers_of("key_pair")
hosts = _offers_of("host")
projects = _offers_of("project")
# Who asks for one wants to wait for it, or call it off.
operations = _offers_of("operation", conditions='state = "RUNNING"')
