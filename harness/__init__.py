"""Kernels, suites, runs, bisection: what a candidate did to the NPU."""
