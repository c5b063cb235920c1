"""Shared by the experiments: scenes, recipes, descents, pictures, and files."""
