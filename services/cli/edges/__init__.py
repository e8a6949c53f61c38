"""What the command touches: the terminal, files of the home, processes, the cloud's public door."""
