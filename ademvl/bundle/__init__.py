"""Results as one file that can be passed on, and what differs between two of them."""
