"""Owns `make demo`: the guest image, a cloud, one instance, its life and its console.

All through the command `stead`, as a user would; run again it goes on from what is there. Arguments
go to `stead up`. Figures go to build/demo.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEAD = ROOT / ".venv" / "bin" / "stead"
GUEST = ROOT / "build" / "guest" / "stead-guest.kernel.tar"
FIGURES = ROOT / "build" / "demo.json"
NAME = "demo"
ACTIVE_S = 240
CONSOLE_S = 180
PROMPT_S = 5
PROMPT = "# "
CONSOLE_LINES = 14
# A shell asks its terminal for its size and colours; who reads a log wants the words.
CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[^\[])|[^\n\t\x20-\x7e\xa0-\U0010ffff]")


class Failed(Exception):
    """A step did not do what it should; the text says which, the exit code is the step's own."""

    def __init__(self, words: str, code: int = 1) -> None:
        super().__init__(words)
        self.code = code


def main(arguments: list[str]) -> int:
    """Runs the steps, writes their seconds, and says how to go on."""
    FIGURES.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    seconds: dict[str, float] = {}
    figures: dict[str, Any] = {"passed": False, "seconds": seconds}
    code = 0
    try:
        timed(seconds, "guest_image", build_guest)
        timed(seconds, "up", lambda: bring_up(arguments))
        image = timed(seconds, "image", take_in_image)
        timed(seconds, "flavor", offer_flavor)
        instance = timed(seconds, "active", lambda: live(image))
        console = timed(seconds, "console", lambda: read_console(instance["id"]))
        figures |= {"passed": True, "instance_id": instance["id"], "host_id": instance["host_id"]}
        say_how_to_go_on(console)
    except Failed as failed:
        print(f"demo: {failed}", file=sys.stderr)
        code = failed.code
    except KeyboardInterrupt:
        print("demo: interrupted; run it again to go on", file=sys.stderr)
        code = 130
    seconds["all"] = round(time.monotonic() - began, 2)
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
    return code


def timed(seconds: dict[str, float], name: str, step: Callable[[], Any]) -> Any:
    """Runs a step and notes how long it took."""
    began = time.monotonic()
    result = step()
    seconds[name] = round(time.monotonic() - began, 2)
    return result


def run(*words: str) -> None:
    """Runs `stead` with its words shown. Raises Failed with its exit code."""
    code = subprocess.run([str(STEAD), *words], check=False).returncode
    if code != 0:
        raise Failed(f"`stead {' '.join(words)}` ended with {code}", code)


def ask(*words: str) -> Any:
    """What `stead … --output json` answers, None where it refuses."""
    command = [str(STEAD), *words, "--output", "json"]
    answered = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(answered.stdout) if answered.returncode == 0 else None


def build_guest() -> None:
    """Builds the guest image; done at once when its sources have not changed."""
    print("demo: the guest image", flush=True)
    command = [str(ROOT / "guest" / "build"), str(GUEST.parent)]
    if subprocess.run(command, check=False).returncode != 0:
        raise Failed("the guest image could not be built")


def bring_up(arguments: list[str]) -> None:
    """Starts the cloud, or finds it running."""
    print("demo: the cloud", flush=True)
    run("up", "--detach", *arguments)


def take_in_image() -> str:
    """The id of the guest image, taken in unless these very bytes are there."""
    digest = hashlib.sha256(GUEST.read_bytes()).hexdigest()
    images = ask("image", "list") or []
    same = [image["id"] for image in images if image["digest"] == digest]
    if same:
        return str(same[0])
    print("demo: taking in the guest image", flush=True)
    taken = any(image["name"] == "stead-guest" for image in images)
    name = f"stead-guest-{digest[:8]}" if taken else "stead-guest"
    run("image", "import", str(GUEST), "--name", name, "--kind", "kernel", "--public")
    return str(ask("image", "show", name)["id"])


def offer_flavor() -> None:
    """Makes the flavor unless it is there."""
    if ask("flavor", "show", NAME) is None:
        sizes = ("--vcpus", "1", "--memory-mib", "128", "--disk-gib", "1")
        run("flavor", "create", NAME, *sizes)


def live(image: str) -> dict[str, Any]:
    """The instance, ACTIVE; made anew if there is none or the one there will never run."""
    found = ask("instance", "show", NAME)
    broken = ("INSTANCE_STATE_ERROR", "INSTANCE_STATE_STOPPED")
    if found and (found["state"] in broken or found["task"] == "INSTANCE_TASK_DELETING"):
        run("instance", "delete", NAME, "--wait")
        found = None
    print(f"demo: the life of the instance {NAME}, version by version", flush=True)
    watching = [str(STEAD), "instance", "watch", NAME, "--until", "ACTIVE", "--output", "json"]
    with subprocess.Popen(watching, stdout=subprocess.PIPE, text=True) as watch:
        patience = threading.Timer(ACTIVE_S, watch.kill)
        patience.start()
        try:
            follow(watch, lambda: None if found else create(image))
        finally:
            patience.cancel()
            watch.kill()
    return dict(ask("instance", "show", NAME))


def follow(watch: subprocess.Popen[str], when_watching: Callable[[], None]) -> None:
    """Shows each version; calls `when_watching` once none can be missed. Raises Failed."""
    for line in watch.stdout or ():
        event = json.loads(line)
        if "snapshot_done" in event:
            when_watching()
            continue
        seen = event["existing"] if "existing" in event else event["change"]["instance"]
        word = {key: seen[key].rpartition("_")[2] for key in ("state", "task", "power")}
        host = f" on {seen['host_id']}" if seen["host_id"] else ""
        states = f"{word['state']:<9} {word['task']:<10} guest {word['power']}"
        print(f"    version {seen['version']}: {states}{host}", flush=True)
    if watch.wait() != 0:
        raise Failed(f"{NAME} did not become ACTIVE; see `stead operation list`", watch.returncode)


def create(image: str) -> None:
    """Asks for the instance. Raises Failed."""
    words = (NAME, "--flavor", NAME, "--image", image, "--output", "json")
    made = subprocess.run(
        [str(STEAD), "instance", "create", *words], stdout=subprocess.DEVNULL, check=False
    )
    if made.returncode != 0:
        raise Failed("the instance could not be asked for", made.returncode)


def read_console(instance_id: str) -> str:
    """What the guest wrote, once it says that it is up and, if that is soon, has its prompt."""
    print("demo: waiting for the guest to come up (without KVM it takes a while)", flush=True)
    sign = f"STEAD-GUEST name={NAME} id={instance_id}"
    deadline = time.monotonic() + CONSOLE_S
    while time.monotonic() < deadline:
        console = ask("instance", "console", NAME, "--log")
        if console and sign in console["output"]:
            return prompted(str(console["output"]))
        time.sleep(0.3)
    raise Failed(f"the guest did not say `{sign}` in {CONSOLE_S} s; see its console's log", 7)


def prompted(console: str) -> str:
    """The console's words with the shell's prompt at their end, or without it after PROMPT_S."""
    deadline = time.monotonic() + PROMPT_S
    while not CONTROL.sub("", console).endswith(PROMPT) and time.monotonic() < deadline:
        time.sleep(0.2)
        newer = ask("instance", "console", NAME, "--log")
        console = str(newer["output"]) if newer else console
    return console


def say_how_to_go_on(console: str) -> None:
    """The guest's own words, then what can be done next."""
    lines = CONTROL.sub("", console).rstrip().splitlines()[-CONSOLE_LINES:]
    print("\ndemo: the guest's own console ends so:\n")
    print("\n".join(f"    {line}" for line in lines))
    stead = os.path.relpath(STEAD)
    print(
        f"\ndemo: the cloud and its guest stay. Go on with\n"
        f"    {stead} instance list\n"
        f"    {stead} instance console {NAME} --log\n"
        f"    {stead} instance create another --flavor {NAME} --image stead-guest --wait\n"
        f"    {stead} status\n"
        f"and stop all of it, guests too, with\n"
        f"    make down"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
