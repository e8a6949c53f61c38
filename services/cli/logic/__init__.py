"""What the command decides: layouts, plans, claims, words. No files, no sockets, no clock."""
