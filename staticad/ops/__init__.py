"""The op table by family: one entry per primitive operation, whole; knows nothing of how programs are built or run."""
