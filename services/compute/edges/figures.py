"""What compute shows to whoever watches over it, beside what every service counts."""

from collections import Counter
from collections.abc import Sequence

from services.compute.flows.agent import Agent
from services.runtime.metrics import Meters, Reading


def add_gauges(meters: Meters, agents: Sequence[Agent]) -> None:
    """The hosts of this process, and what is wanted of them."""

    def hosts() -> Reading:
        return {
            (str(viewed).lower(),): count
            for viewed, count in Counter(agent.viewed.is_set() for agent in agents).items()
        }

    def claims() -> Reading:
        return float(sum(len(agent.reconciler.wishes.claims()) for agent in agents))

    meters.gauge(
        "agents", "Hosts of this process, by whether they know what they should do.", hosts,
        ("viewed",),
    )  # fmt: skip
    meters.gauge("claims", "Claims that this process takes care of.", claims)
