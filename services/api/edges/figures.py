"""What api shows to whoever watches over it, beside what every service counts."""

from services.api.flows.follow_changes import Hub
from services.api.flows.follow_feed import Feed
from services.runtime.metrics import Meters, Reading


def add_gauges(meters: Meters, hub: Hub, feed: Feed) -> None:
    """Who watches, and how far behind the watchers and the feed are."""

    def watchers() -> Reading:
        return {(kind.name,): count for kind, count in hub.watchers().items()}

    meters.gauge("watchers", "Open watches.", watchers, ("kind",))
    meters.gauge(
        "watch_lag_revisions",
        "How many changes the slowest watcher has not taken yet.",
        hub.lag_revisions,
    )
    meters.gauge(
        "watch_lag_seconds",
        "How long the oldest change waits that some watcher has not taken.",
        hub.lag_s,
    )
    meters.gauge(
        "feed_lag_revisions",
        "How many changes this replica has heard of and does not show yet.",
        feed.lag_revisions,
    )
    meters.gauge("feed_revision", "The newest change that is shown.", lambda: hub.revision)
