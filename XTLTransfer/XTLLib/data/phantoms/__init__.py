"""Phantoms: generated mammograms, brain MR and prostate MR with known truth.

They prove that the machinery works from files to scene, and nothing medical. Every phantom is a
closed-form anatomy in patient space (mm) that is sampled on whatever grid a channel has, so the
truth is known exactly on every grid; the same seed gives the same phantom.
"""
