"""Decides. Pure."""
