"""Nodes as processes, driven by the command line alone."""
