"""Engines: a variant compiled for one backend and one machine, and what such an engine fits."""
