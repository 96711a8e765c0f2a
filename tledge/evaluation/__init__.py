"""Scores of stages, and comparisons of one stage with another on the same images."""
