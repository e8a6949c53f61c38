"""The libvirt driver: QEMU guests, accelerated by KVM where it really works, else by TCG."""
