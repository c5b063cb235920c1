"""The parts of the reconstruction demo: targets, views, methods, the loop, the report."""
