"""The config drive tells a guest its name, its owner's keys and user data.

An ISO 9660 image labelled config-2, laid out as OpenStack's config drive, version `latest`, which
cloud-init and the guest of the demo read.
"""

import io
import json
import re
from pathlib import Path

import pycdlib

from services.compute.flows.ports import GuestSpec

LABEL = "config-2"
HOSTNAME_MAX = 63


def write_config_drive(path: Path, instance_id: str, spec: GuestSpec) -> None:
    """Writes the image to `path`."""
    meta_data = json.dumps(
        {
            "uuid": instance_id,
            "name": spec.name,
            "hostname": hostname(spec.name),
            "project_id": spec.project_id,
            "public_keys": {f"key-{n}": key for n, key in enumerate(spec.ssh_public_keys)},
        }
    ).encode()
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    image.add_directory("/OPENSTAC", rr_name="openstack", joliet_path="/openstack")
    image.add_directory("/OPENSTAC/LATEST", rr_name="latest", joliet_path="/openstack/latest")
    _add(image, "META_DAT.JSO", name="meta_data.json", content=meta_data)
    _add(image, "USER_DAT", name="user_data", content=spec.user_data)
    image.write(str(path))
    image.close()


def hostname(name: str) -> str:
    """A host name like the instance's name: 1 to 63 of a-z, 0-9 and inner dashes, or `instance`."""
    dashed = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return dashed[:HOSTNAME_MAX].rstrip("-") or "instance"


def _add(image: pycdlib.PyCdlib, iso_name: str, *, name: str, content: bytes) -> None:
    image.add_fp(
        io.BytesIO(content),
        len(content),
        f"/OPENSTAC/LATEST/{iso_name};1",
        rr_name=name,
        joliet_path=f"/openstack/latest/{name}",
    )
