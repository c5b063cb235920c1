"""Shared by the benchmarks: meshes, peers, timing, tables."""
