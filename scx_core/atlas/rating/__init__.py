"""What people say of features: who rates what, blinded, and how far they agree with the verdicts."""
