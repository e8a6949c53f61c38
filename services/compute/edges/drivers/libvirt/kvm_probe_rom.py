"""The bytes of the KVM probe's guest, assembled from kvm_probe_rom.S; a test compares them."""

ROM_BYTES = 1 << 16

_RESET_AT = ROM_BYTES - 16
_CODE = bytes.fromhex(
    "fab031e6e92e660f011608010f20c06683c8010f22c066ea1e00ffff080066b810008ed88ec08ed0bc008000"
    "00b032e6e9bf0010000031c0b900100000f3abc7050010000003200000c7050020000003300000c705182000"
    "0003400000bf00300000b883000000b9000200008907050000200083c708e2f4bf00400000b8830000c0b900"
    "0200008907050000200083c708e2f4b8001000000f22d80f20e083c8200f22e0b9800000c00f320d00010000"
    "0f300f20c00d000000800f22c0eac400ffff1800b033e6e948c7c1a086010048ffc975fbb034e6e9b02a66ba"
    "f400eef4ebfd0000000000000000000000000000ffff0000009acf00ffff00000092cf00ffff0000009aaf00"
    "1f00e800ffff"
)
_RESET = bytes.fromhex("e90d")


def kvm_probe_rom() -> bytes:
    """The whole ROM: code at its start, the jump of the reset vector in its last 16 bytes."""
    return (_CODE.ljust(_RESET_AT, b"\0") + _RESET).ljust(ROM_BYTES, b"\0")
