"""What libxl does: domains, vifs, and the processes that serve them."""
