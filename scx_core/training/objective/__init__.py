"""What a training step asks for: losses, sparsity, dead features."""
