"""Trained networks as MONAI Bundles on disk."""
