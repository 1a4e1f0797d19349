"""What everybody reports through."""
