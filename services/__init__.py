"""stead: the services of a compute cloud, one package each, and what they share."""

import os

# gRPC would stop and restart its threads around every fork, also in a child that only wants to
# exec; that child then dies of SIGSEGV now and then. Nothing here uses gRPC after a fork. It is
# read when grpc is imported, so it stands where every import of ours passes first.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
