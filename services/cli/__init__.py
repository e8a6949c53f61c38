"""The command `stead`: a client of stead.v1 and the all-in-one launcher."""
