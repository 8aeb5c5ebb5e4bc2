"""How numbers are held and multiplied: precision, products, what a device can do."""
