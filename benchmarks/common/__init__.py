"""What the benchmarks share: meshes, peers, timing, tables."""
