"""The service conductor: the memory and the will (DESIGN of the house in CONTRIBUTING.md)."""
