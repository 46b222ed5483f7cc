"""The finding, the policy, and every way to show or store them."""
