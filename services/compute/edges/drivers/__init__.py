"""One file per driver: the step-wise contract of flows/ports.py over one hypervisor."""
