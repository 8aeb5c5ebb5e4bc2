"""Who else could have named these genes: rankings, by what the real model loses without them."""
