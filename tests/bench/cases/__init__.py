"""The benchmarks, by subject."""
