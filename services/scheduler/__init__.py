"""The service scheduler: the thinker (DESIGN of the house in CONTRIBUTING.md)."""
