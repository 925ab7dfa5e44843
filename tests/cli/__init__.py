"""The command line: each command against a real node, and against scripted answers that a healthy node does not give.
"""
