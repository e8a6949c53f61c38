"""The service api: the front desk (DESIGN of the house in CONTRIBUTING.md)."""
