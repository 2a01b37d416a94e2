"""What an evaluation says beyond its figures: how sure they are, and to what end."""
