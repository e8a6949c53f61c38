"""The engines that `stead up` brings along: PostgreSQL, NATS, libvirt."""
