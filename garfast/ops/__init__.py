"""Operators: the product. One module per operator, with its checks, registration, autograd and reference."""
