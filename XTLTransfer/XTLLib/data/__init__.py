"""files -> cases. Readers of public layouts, geometry and intensity preparation."""
