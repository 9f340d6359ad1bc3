"""staticad against its peers: ``python -m benchmarks`` measures and reports, ``pytest benchmarks`` runs the same.

Each ``test_NAME.py`` holds one workload in ``WORKLOADS``: the data, and the program as each peer writes it.
All peers of an entry must agree with an independent one before any of them is timed.
"""
