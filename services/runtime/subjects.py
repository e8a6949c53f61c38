"""The subjects of the bus. Names that others rely on: `stead.<cloud>.…`, one subtree per host."""


def place(cloud_id: str) -> str:
    """Instances that need a host: conductors to schedulers."""
    return f"stead.{cloud_id}.place"


def decided(cloud_id: str) -> str:
    """Decisions: schedulers to conductors."""
    return f"stead.{cloud_id}.decided"


def feed(cloud_id: str) -> str:
    """Changes in the order of revisions: conductors to everyone who follows."""
    return f"stead.{cloud_id}.feed"


def host_command(cloud_id: str, host_id: str) -> str:
    """What is wanted of a host."""
    return f"stead.{cloud_id}.host.{host_id}.command"


def host_echo(cloud_id: str, host_id: str) -> str:
    """What an agent says to itself, to know whether its bus is there."""
    return f"stead.{cloud_id}.host.{host_id}.echo"


def host_question(cloud_id: str, host_id: str) -> str:
    """Questions that a host answers by dialling in."""
    return f"stead.{cloud_id}.host.{host_id}.question"
