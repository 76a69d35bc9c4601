"""Triton kernels, one module per operator; imported only where they run."""
