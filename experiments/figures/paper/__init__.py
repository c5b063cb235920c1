"""What the experiments share: scenes, recipes, descents, pictures, and files."""
