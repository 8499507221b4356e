"""Case + bundle -> probability map, lesions, probabilities."""
