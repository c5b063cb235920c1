"""What the examples of textures and volumes share: targets made in code, the descent, tables and pictures."""
