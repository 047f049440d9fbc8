"""Reading folders, videos and bags; writing records, overlays and plots."""
