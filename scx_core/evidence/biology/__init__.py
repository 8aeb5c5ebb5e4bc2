"""Measured biology: perturbations, curated networks and conditions beside what a model says of them."""
