"""The benchmarks measure correct work. These tests need no peer and no Node."""
