"""Shared by the experiments with textures and volumes: generated targets, the descent, tables and pictures."""
