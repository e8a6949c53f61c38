"""What must hold of everything that happened in a cloud: a history in, violations out."""
