"""What the command orders: up, down, status, waiting."""
