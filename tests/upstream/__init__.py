"""The suites of the projects whose kernels get volumes, run with volumes."""
