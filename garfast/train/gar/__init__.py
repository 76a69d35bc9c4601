"""Training of the generative adversarial renderer."""
