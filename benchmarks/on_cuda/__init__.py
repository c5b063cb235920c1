"""The benchmarks that need an NVIDIA GPU, and the solvers that are compared there."""
