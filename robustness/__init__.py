"""Attacks on image classifiers, and what they measured, as findings."""
