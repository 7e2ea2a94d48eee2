"""The step as C++: plain functions of one row. `cpu.cpp` includes the others."""
