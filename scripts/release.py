"""Owns the promise: moves proto/released.binpb to the contract as it is. Publishes nothing."""

from __future__ import annotations

import argparse
import pathlib
import sys

from google.protobuf import descriptor_pb2

import check
import proto

BEFORE_A_PROMISE = ["proto-format", "proto-lint", "proto-comments", "generated"]


def without_comments(image: pathlib.Path) -> bytes:
    """The image as it is promised: what a wire and a compiler see, without prose."""
    found = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    for file in found.file:
        file.ClearField("source_code_info")
    return found.SerializeToString(deterministic=True)


def main() -> int:
    """Checks the contract and promises it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--breaking", type=pathlib.Path, help="the ADR that decides to break it")
    arguments = parser.parse_args()
    checks = list(BEFORE_A_PROMISE)
    if arguments.breaking is not None:
        if not arguments.breaking.is_file():
            print(f"stead: there is no {arguments.breaking}", file=sys.stderr)
            return 2
    elif check.RELEASED.exists():
        checks.append("proto-breaking")
    if check.main(checks) != 0:
        print(
            "\nstead: not released. A break needs an ADR: make release BREAKING=docs/adr/NNNN-...md"
        )
        return 1
    check.RELEASED.write_bytes(without_comments(check.IMAGE))
    files = len(proto.ours())
    print(f"{check.RELEASED.relative_to(check.ROOT)} now promises {files} files as they are")
    return 0


if __name__ == "__main__":
    sys.exit(main())
