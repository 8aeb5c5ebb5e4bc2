"""A circuit as boxes, links and words in places: what every renderer draws."""
