"""What stands out from its background in one frame: level and noise, point sources, residual motion, regions."""
