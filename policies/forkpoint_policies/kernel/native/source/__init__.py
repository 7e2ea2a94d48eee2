"""The step as C++: plain functions of one row, one source for CPUs and GPUs."""
