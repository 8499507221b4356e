"""Arms x folds x seeds: cross-validation and comparison."""
