"""Gene knock-outs in the real model: edited prompts, measured and estimated effects, intervals over cells."""
