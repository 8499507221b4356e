"""One engine for every stage."""
