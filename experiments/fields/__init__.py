"""What the experiments with textures and volumes share: targets made in code, the descent, tables and pictures."""
