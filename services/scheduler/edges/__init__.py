"""Touches one foreign party per file."""
