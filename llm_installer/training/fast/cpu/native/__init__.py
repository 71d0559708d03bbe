"""Kernels in C for training on a CPU in bfloat16: compiled once on the machine they run on, and kept in the cache."""
