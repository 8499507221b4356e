"""Stages and chains: what a set of weights goes through."""
