"""Stand-ins that run in the place of a peer."""
