"""Reading and writing: images, meshes, parameters, reports."""
