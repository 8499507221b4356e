"""Overlap, lesion-wise and ROC metrics and statistics; pure functions on arrays."""
