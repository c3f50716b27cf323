"""What repairs or protects a model in other ways than InverTune: one module for each method."""
