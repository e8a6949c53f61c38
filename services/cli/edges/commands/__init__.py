"""The words of the command line, one file per noun."""
