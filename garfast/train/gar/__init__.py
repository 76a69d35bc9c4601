"""Training of the renderer G against its adversary, with the losses that tie it to its geometry."""
