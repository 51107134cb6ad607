"""What people look at: overlays and tables."""
