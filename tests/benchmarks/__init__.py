"""The benchmarks tell the truth; none of these tests needs a peer or Node."""
