"""The service compute: the hands, one per host (DESIGN of the house in CONTRIBUTING.md)."""
