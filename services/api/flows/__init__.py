"""Orders what happens. Awaits, retries."""
