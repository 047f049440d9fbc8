"""Pixel to bearing to attitude: what the spacecraft is asked to do, and when it is not asked."""
