"""Tests of the Python clients and of the embedded node."""
