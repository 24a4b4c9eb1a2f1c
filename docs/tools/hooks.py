"""What the site fills in while it is built: the equation index."""
