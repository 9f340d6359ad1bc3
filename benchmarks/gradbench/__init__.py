"""GradBench, the benchmark of the automatic differentiation community, as its users would write it.

Each program delivers the derivative that GradBench asks for, at its sizes (github.com/gradbench/gradbench).
"""
